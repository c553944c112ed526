"""Who may see and do what."""

from tests.faults.mutations.mutant import Mutant

_TOKENS = "tests/app/login/test_tokens.py"
_HOSTS = "tests/app/webhooks/test_allowlist.py"
_CHALLENGE = ' and hmac.compare_digest(data["challenge"], challenge)'

ACCESS = (
    Mutant(
        "a job of another team is found",
        "app/jobs/service.py",
        "if job is None or job.team_id != caller.team_id:",
        "if job is None:",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a job of another team can be changed",
        "app/jobs/repository.py",
        "            .where(Job.id == job_id, Job.team_id == team_id, Job.purpose == purpose)\n",
        "            .where(Job.id == job_id, Job.purpose == purpose)\n",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a file of another team is found",
        "app/files/repository.py",
        "statement = select(File).where(File.id == file_id, File.team_id == team_id, *_visible())\n",
        "statement = select(File).where(File.id == file_id, *_visible())\n",
        "tests/architecture/test_authorization.py",
    ),
    Mutant(
        "a revoked key works",
        "app/identity/service.py",
        "if key.revoked_at is not None:\n            raise",
        "if False:\n            raise",
        "tests/app/identity/test_identity.py",
    ),
    Mutant(
        "an expired key works",
        "app/identity/service.py",
        "key.expires_at <= now",
        "key.expires_at > now",
        "tests/app/identity/test_identity.py",
    ),
    Mutant(
        "every role may everything",
        "app/identity/policy.py",
        "return permission in _GRANTS[role]",
        "return permission in Permission",
        "tests/app/identity/test_policy.py",
    ),
    Mutant(
        "a key is used again for another request",
        "app/db/idempotency.py",
        "if row.fingerprint != fingerprint:",
        "if False:",
        "tests/app/api/test_idempotency.py",
    ),
    Mutant(
        "answers with secrets are kept",
        "app/db/idempotency.py",
        'None if reservation.is_secret else {"body": answer.body}',
        '{"body": answer.body}',
        "tests/app/identity/test_organization.py tests/app/identity/test_identity.py",
    ),
    Mutant(
        "a body may be as large as it likes",
        "app/api/middleware.py",
        "            if len(body) > self._max_body_bytes:\n                raise self._too_large()\n",
        "",
        "tests/app/api/test_middleware.py",
    ),
    Mutant(
        "an engine sees the service's secrets",
        "workers/supervisor/engine_process.py",
        "result = {name: source[name] for name in _INHERITED if name in source}",
        "result = dict(source)",
        "tests/workers/supervisor/test_engine_process.py",
    ),
    Mutant(
        "an address that is not verified is somebody",
        "app/login/service.py",
        "isinstance(email, str) and is_verified and",
        "isinstance(email, str) and",
        "tests/app/login/test_login.py",
    ),
    Mutant(
        "a log-in ends in another browser",
        "app/login/service.py",
        'if data is None or browser is None or not hmac.compare_digest(data["browser"], _digest(browser).hex()):',
        "if data is None:",
        "tests/app/login/test_login.py",
    ),
    Mutant(
        "a cookie writes for other sites",
        "app/api/session_cookie.py",
        "request.method not in _READING and not _is_ours(request)",
        "False",
        "tests/app/login/test_cookie.py",
    ),
    Mutant("a nonce is of no matter", "app/login/id_token.py", "expected.nonce.encode()", "nonce.encode()", _TOKENS),
    Mutant("a code is good for every program", "app/login/service.py", _CHALLENGE, "", "tests/app/cli/test_login.py"),
    Mutant("lists of hosts are for show", "app/webhooks/sending.py", "allowlist.check(target)", "pass", _HOSTS),
)
