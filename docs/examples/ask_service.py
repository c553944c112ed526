"""Ask a running Tunesmith for greedy answers to held-out rows and save them for comparison.

    python docs/examples/ask_service.py MODEL ROWS.jsonl ANSWERS.json [COUNT]

Reads the address and key from OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import json
import sys
from pathlib import Path

from openai import OpenAI


def main(model: str, rows_path: str, answers_path: str, count: int) -> None:
    client = OpenAI()
    answers = []
    for line in Path(rows_path).read_text("utf-8").split("\n")[:count]:
        prompt = json.loads(line)["messages"][:-1]
        reply = client.chat.completions.create(model=model, messages=prompt, temperature=0, max_tokens=24)
        answers.append({"messages": prompt, "answer": reply.choices[0].message.content})
    Path(answers_path).write_text(json.dumps(answers, ensure_ascii=False, indent=1), "utf-8")
    print(f"{len(answers)} answers of {model} saved to {answers_path}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 20)
