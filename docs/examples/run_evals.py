"""One eval on two models with the official client, in strict validation: which of them passes more often?

    python run_evals.py BASE_MODEL OTHER_MODEL ROWS.jsonl

ROWS.jsonl has one line a question: {"item": {"question": "…", "answer": "…"}}. The service is named by
OPENAI_BASE_URL and OPENAI_API_KEY, as `tunesmith up` prints them.
"""

import sys
import time
from pathlib import Path

from openai import OpenAI

FINAL = ("completed", "failed", "canceled")


def main(first: str, second: str, rows: str) -> int:
    client = OpenAI(_strict_response_validation=True)
    file = client.files.create(file=Path(rows), purpose="evals")
    made = client.evals.create(
        name="answers",
        data_source_config={
            "type": "custom",
            "item_schema": {"type": "object", "required": ["question", "answer"]},
            "include_sample_schema": True,
        },
        testing_criteria=[
            {
                "type": "string_check",
                "name": "exact",
                "input": "{{sample.output_text}}",
                "reference": "{{item.answer}}",
                "operation": "eq",
            },
            {
                "type": "text_similarity",
                "name": "close",
                "input": "{{sample.output_text}}",
                "reference": "{{item.answer}}",
                "evaluation_metric": "rouge_l",
                "pass_threshold": 0.5,
            },
        ],
    )
    for model in (first, second):
        run = client.evals.runs.create(
            made.id,
            data_source={
                "type": "completions",
                "model": model,
                "source": {"type": "file_id", "id": file.id},
                "input_messages": {
                    "type": "template",
                    "template": [{"role": "user", "content": "{{item.question}}"}],
                },
                "sampling_params": {"temperature": 0, "max_completion_tokens": 64},
            },
        )
        while run.status not in FINAL:
            time.sleep(1)
            run = client.evals.runs.retrieve(run.id, eval_id=made.id)
        if run.status != "completed":
            print(run.error.message or run.status, file=sys.stderr)
            return 1
        for found in run.per_testing_criteria_results:
            extra = found.model_extra or {}
            low, high = extra["pass_rate_low"], extra["pass_rate_high"]
            shown = "nothing judged" if low is None else f"{extra['pass_rate']:.0%} (95 %: {low:.0%} to {high:.0%})"
            print(f"{model} {found.testing_criteria}: {shown}")
        for item in client.evals.runs.output_items.list(run.id, eval_id=made.id, status="fail"):
            print(f"  {item.datasource_item['question']!r}: {item.sample.output[0].content!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
