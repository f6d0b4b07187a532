# One static program, and the directories that volumes take their owner from. Made by `make images`.
FROM scratch
LABEL org.opencontainers.image.title="ca-daemon" \
      org.opencontainers.image.description="A certificate authority whose revocations arrive" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY ca-daemon /ca-daemon
# /data: the authority. /tokens: for each service of docker-compose.yml a volume that only it and the authority see.
COPY --chown=65532:65532 owned/ /
USER 65532:65532
# SQLite's large temporary files have no other place on a read-only root.
ENV CA_DIR=/data SQLITE_TMPDIR=/data
EXPOSE 8440 8480
HEALTHCHECK --interval=3s --timeout=5s --start-period=30s --retries=3 CMD ["/ca-daemon", "healthcheck"]
ENTRYPOINT ["/ca-daemon"]
CMD ["start", "--listen", "0.0.0.0:8440", "--http-listen", "0.0.0.0:8480"]
