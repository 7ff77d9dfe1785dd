# syntax=docker/dockerfile:1
# aegis-loadtest, with the digits and the objectives: what `helm test` runs.
#   docker build --file charts/images/loadtest.Dockerfile --tag registry.example/aegis-loadtest:0.1.0 .
FROM rust:1.95.0-bookworm AS build
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    charts/images/build.sh aegis-loadtest /rootfs

FROM scratch
COPY --from=build /rootfs/ /
COPY loadtest/data/digits/ /usr/share/aegis/digits/
COPY config/slo.toml /usr/share/aegis/slo.toml
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["aegis-loadtest"]
CMD ["--help"]
