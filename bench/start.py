"""Time from POST to the first optimizer step, cold and with a warm engine.

    python bench/start.py --base smollm2-135m-instruct [--rows FILE] [--warm 5]

Talks to a running service whose engine has not trained yet; the first job is the cold one.
Prints one table: seconds from sending the POST until the job runs, and until the metric of its first
step can be read (asked every 0.1 s).
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import httpx

_POLL_SECONDS = 0.1  # more would take the processors from the step
_REST_SECONDS = 2.0  # between jobs: a worker hears no bell for up to a second after it has finished one


def wait_for_step(client: httpx.Client, job: str, sent: float) -> tuple[float, float]:
    """Seconds until the job was running, and until its first metric was there."""
    while (state := client.get(f"fine_tuning/jobs/{job}").raise_for_status().json())["status"] != "running":
        if state["status"] == "failed":
            raise SystemExit(f"the job failed: {state['error']}")
        time.sleep(_POLL_SECONDS / 5)
    running = time.monotonic() - sent
    while not client.get(f"fine_tuning/jobs/{job}/metrics").raise_for_status().json()["data"]:
        if (state := client.get(f"fine_tuning/jobs/{job}").raise_for_status().json())["status"] == "failed":
            raise SystemExit(f"the job failed: {state['error']}")
        time.sleep(_POLL_SECONDS)
    return running, time.monotonic() - sent


def run_once(client: httpx.Client, base: str, file: str) -> tuple[float, float]:
    body = {
        "model": base,
        "training_file": file,
        "seed": 1,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
    }
    sent = time.monotonic()
    job = client.post("fine_tuning/jobs", json=body).raise_for_status().json()["id"]
    figures = wait_for_step(client, job, sent)
    client.post(f"fine_tuning/jobs/{job}/cancel").raise_for_status()
    while any(w["status"] != "idle" for w in client.get("pool").raise_for_status().json()["workers"]):
        time.sleep(0.1)
    time.sleep(_REST_SECONDS)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=Path, default=Path(__file__).parents[1] / "app/cli/demo/tickets_train.jsonl")
    parser.add_argument("--warm", type=int, default=5)
    arguments = parser.parse_args()
    ready = Path(os.environ.get("TUNESMITH_DATA_DIR", ".tunesmith")) / "ready.json"
    service = (
        json.loads(ready.read_text())
        if ready.exists()
        else {"base_url": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
    )
    with httpx.Client(
        base_url=service["base_url"], headers={"Authorization": f"Bearer {service['api_key']}"}, timeout=60
    ) as client:
        upload = client.post(
            "files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", arguments.rows.read_bytes())}
        )
        file = upload.raise_for_status().json()["id"]
        cold = run_once(client, arguments.base, file)
        warm = [run_once(client, arguments.base, file) for _ in range(arguments.warm)]
    print(f"{'':8} {'to running s':>14} {'to first step s':>16}")
    print(f"{'cold':8} {cold[0]:14.2f} {cold[1]:16.2f}")
    for name, pick in (("min", min), ("median", statistics.median), ("max", max)):
        print(f"{'warm ' + name:11} {pick([w[0] for w in warm]):11.2f} {pick([w[1] for w in warm]):16.2f}")


if __name__ == "__main__":
    main()
