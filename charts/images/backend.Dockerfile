# syntax=docker/dockerfile:1
# aegis-backend for CPUs: docker build --file charts/images/backend.Dockerfile --tag registry.example/aegis-backend:0.1.0 .
#
# libtorch is a layer of its own, made of two files: a new release of the program moves some tens of megabytes.
FROM rust:1.95.0-bookworm AS libtorch
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install --yes --no-install-recommends cmake python3 python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY scripts/setup_libtorch.py scripts/
COPY charts/images/rootfs.sh charts/images/
RUN python3 scripts/setup_libtorch.py && charts/images/rootfs.sh libraries .libtorch/lib /libtorch

FROM libtorch AS build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    charts/images/build.sh aegis-backend /rootfs

FROM scratch
COPY --from=libtorch /libtorch/ /
COPY --from=build /rootfs/ /
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["aegis-backend"]
CMD ["serve", "--config", "/etc/aegis/backend.toml"]
