# syntax=docker/dockerfile:1
# aegis-proxy: docker build --file charts/images/proxy.Dockerfile --tag registry.example/aegis-proxy:0.1.0 .
FROM rust:1.95.0-bookworm AS build
# The toolchain of the image, and not another one by rust-toolchain.toml.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    charts/images/build.sh aegis-proxy /rootfs

FROM scratch
COPY --from=build /rootfs/ /
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
ENTRYPOINT ["aegis-proxy"]
CMD ["serve", "--config", "/etc/aegis/proxy.toml"]
