# pneumoseg in an image: not root, works with a read-only root file system, writes only to /data, /spool and /tmp.
#
#   docker build -t pneumoseg .                                    processors only, from PyTorch's index of CPU builds
#   docker build --build-arg TORCH_INDEX= -t pneumoseg:cuda .      with CUDA, which PyPI's torch brings along
#
# docs/containers.md shows how to run the image.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX="https://download.pytorch.org/whl/cpu"
ARG EXTRAS="onnx,pacs,pretrained"
ENV PATH=/opt/pneumoseg/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/pneumoseg
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then \
      grep '^torch==' constraints.txt > torch.txt \
      && pip install --no-deps --index-url "$TORCH_INDEX" --requirement torch.txt; \
    fi
COPY . .
RUN pip install ".[$EXTRAS]" --constraint constraints.txt

FROM python:${PYTHON}-slim
# all that libraries cache goes to /tmp, the only place that has to be writable
ENV PATH=/opt/pneumoseg/bin:$PATH \
    HOME=/tmp \
    LOGNAME=pneumoseg \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp pneumoseg \
    && install --directory --owner=pneumoseg --group=pneumoseg /data /spool
COPY --from=build /opt/pneumoseg /opt/pneumoseg
USER 10001:10001
WORKDIR /data
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s CMD ["pneumoseg", "-q", "doctor"]
ENTRYPOINT ["pneumoseg"]
CMD ["doctor"]
