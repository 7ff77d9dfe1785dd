# syntax=docker/dockerfile:1
# aegis-backend for GPUs, of CUDA 13: the same program, with the whole of libtorch and NVIDIA's libraries.
#   docker build --file charts/images/backend-cuda.Dockerfile --tag registry.example/aegis-backend-cuda:0.1.0 .
#
# The driver is the node's: the NVIDIA container runtime brings its libraries in, as the two variables ask for.
FROM rust:1.95.0-bookworm AS libtorch
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install --yes --no-install-recommends binutils cmake python3 python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY scripts/setup_libtorch.py scripts/
RUN python3 scripts/setup_libtorch.py
COPY charts/images/rootfs.sh charts/images/cuda_libraries.py charts/images/cuda-libraries.txt charts/images/
RUN charts/images/cuda_libraries.py /cuda && charts/images/rootfs.sh libraries /cuda /libtorch && rm -rf /cuda

FROM libtorch AS build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    charts/images/build.sh aegis-backend /rootfs

FROM scratch
COPY --from=libtorch /libtorch/ /
COPY --from=build /rootfs/ /
# Where the runtime puts the driver's libraries depends on the node; both are looked through.
ENV PATH=/usr/local/bin LD_LIBRARY_PATH=/usr/local/lib:/usr/local/nvidia/lib64
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["aegis-backend"]
CMD ["serve", "--config", "/etc/aegis/backend.toml"]
