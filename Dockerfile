FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements.lock
COPY . .
# What runs belongs to root: the user of the service can change nothing of it.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --system --uid 10001 --home /var/lib/chengxin --create-home --shell /usr/sbin/nologin chengxin \
    && install -d -o chengxin -m 0700 /var/lib/chengxin/keys
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["chengxin"]
