"""What a job needs at least is known before it runs, and grows with what is trained."""

from app.jobs.footprint import least_compute_capability, least_memory_bytes

LORA, QLORA, FULL = ({"quantization": "none"}, {"quantization": "nf4"}, {"quantization": "none", "tuning": "full"})


def test_full_fine_tuning_needs_nine_times_the_weights_of_an_adapter_and_four_bits_a_quarter():
    billions = 7_000_000_000
    runtime = least_memory_bytes(0, LORA, trains=True)
    lora, qlora, full = (least_memory_bytes(billions, spec, trains=True) - runtime for spec in (LORA, QLORA, FULL))
    assert (lora, qlora, full) == (14_000_000_000, 3_500_000_000, 126_000_000_000)
    assert least_memory_bytes(billions, FULL, trains=False) - runtime == 14_000_000_000


def test_four_bits_need_a_gpu_and_nothing_else_does():
    assert (least_compute_capability(LORA), least_compute_capability(QLORA)) == (None, 60)


def test_a_queued_job_knows_what_it_needs(world):
    job = world.job(world.queued(training={"quantization": "nf4"}))
    assert job.compute_capability == 60
    assert job.memory_bytes == 450 * 2**20 + 500
