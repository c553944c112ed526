"""From upload to streamed chat with the official client, in strict validation.

    python openai_client.py BASE_MODEL TRAINING_FILE "A question"

The service is named by OPENAI_BASE_URL and OPENAI_API_KEY, as `tunesmith up` prints them.
"""

import sys
import time
from pathlib import Path

from openai import OpenAI

FINAL = ("succeeded", "failed", "cancelled")


def main(base: str, training_file: str, question: str) -> int:
    client = OpenAI(_strict_response_validation=True)
    file = client.files.create(file=Path(training_file), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id, suffix="example")
    print(job.id)
    shown: set[str] = set()
    while job.status not in FINAL:
        time.sleep(2)
        job = client.fine_tuning.jobs.retrieve(job.id)
        for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=50).data):
            if event.id not in shown:
                shown.add(event.id)
                print(event.message)
    if job.fine_tuned_model is None:
        print(job.error.message if job.error else job.status, file=sys.stderr)
        return 1
    print(f"{job.fine_tuned_model}: {question}")
    stream = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": question}], temperature=0, stream=True
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
