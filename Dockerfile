FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --system --home /var/lib/chengxin --create-home chengxin \
    && install -d -o chengxin -m 0700 /var/lib/chengxin/keys
USER chengxin
ENTRYPOINT ["chengxin"]
