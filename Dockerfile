# Two images: `api` (no torch: API, control, cpu and gpu supervisors' code, migrations) and `engine` (with torch).
#   docker build --target api -t tunesmith-api .
#   docker build --target engine -t tunesmith-engine .

FROM python:3.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home --home-dir /var/lib/tunesmith tunesmith \
 && install -d -o tunesmith -g tunesmith /var/lib/tunesmith/bases /var/lib/tunesmith/scratch /var/lib/tunesmith/artifacts
WORKDIR /opt/tunesmith
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations

FROM base AS api
RUN pip install --constraint constraints.txt '.[s3]'
USER tunesmith
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
CMD ["python", "-m", "uvicorn", "--factory", "app.main:build", "--host", "0.0.0.0", "--port", "8080", "--no-access-log", "--ws", "none"]

FROM base AS engine
RUN pip install --constraint constraints.txt '.[engine,s3]'
ENV HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
USER tunesmith
CMD ["python", "-m", "workers.run", "--role", "gpu", "--name", "gpu0"]
