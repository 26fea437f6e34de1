# autoharness with tau2 beside it, for the benchmark tau-bench: see "In a container" in docs/src/benchmarks/tau-bench.md.
#
# tests/container.rs keeps this file in step with the sources: the versions, what is copied, the commit of tau2.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock .env.example ./
COPY agent agent
COPY benches benches
COPY docs/llms.txt docs/llms.txt
COPY program_templates program_templates
COPY src src
RUN cargo build --release --locked --bin autoharness

FROM python:3.12-slim-bookworm AS base
# Not pinned: Debian keeps only the newest version of a package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/*

FROM base AS tau2
# The same commit as the default of `tau2_revision`. An image of another one serves experiments that want that one.
ARG TAU2_REVISION=a2c024725189473d2d7cea3a5cfdbcc67478e41f
ARG TAU2_REPOSITORY=https://github.com/sierra-research/tau2-bench
WORKDIR /checkout
RUN git init --quiet \
    && git remote add origin "$TAU2_REPOSITORY" \
    && git sparse-checkout set --no-cone \
        /src/ /data/tau2/domains/ /data/tau2/user_simulator/ /pyproject.toml /README.md /LICENSE \
    && git fetch --quiet --depth=1 --no-tags --filter=blob:none origin "$TAU2_REVISION" \
    && git checkout --quiet --detach FETCH_HEAD
COPY src/benchmarks/tau_bench/helper/requirements.txt /requirements.txt
# Code and data from this one checkout. The data lies beside the environment and not in it: what Python may read, an agent
# may read, too.
RUN python -m venv /opt/tau2/venv \
    && /opt/tau2/venv/bin/python -m pip install --no-cache-dir --no-input --progress-bar off \
        --require-hashes --requirement /requirements.txt \
    && /opt/tau2/venv/bin/python -m pip install --no-cache-dir --no-input --progress-bar off \
        --no-deps --no-build-isolation "tau2 @ file:///checkout" \
    && mkdir -p /opt/tau2/data/tau2 \
    && cp -R data/tau2/domains data/tau2/user_simulator /opt/tau2/data/tau2/ \
    && cp LICENSE /opt/tau2/ \
    && git rev-parse HEAD > /opt/tau2/revision \
    && chmod -R a+rX,go-w /opt/tau2

FROM base
# A home for whatever user the container runs as, and a name for commits made in it: that of the repository or the user
# comes first.
RUN mkdir --mode=1777 /home/autoharness \
    && git config --system user.name autoharness \
    && git config --system user.email autoharness@localhost
COPY --from=tau2 /opt/tau2 /opt/tau2
COPY --from=build /src/target/release/autoharness /usr/local/bin/autoharness
ENV HOME=/home/autoharness \
    AUTOHARNESS_TAU2_DIR=/opt/tau2 \
    TAU2_DATA_DIR=/opt/tau2/data \
    LITELLM_LOCAL_MODEL_COST_MAP=True
# Never root: run it as the owner of the experiment, who is 1000 on most machines of one person.
USER 1000:1000
WORKDIR /experiment
ENTRYPOINT ["autoharness"]
CMD ["--help"]
