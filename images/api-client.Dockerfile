# One static program. Its identity is whatever is mounted at /data. Made by `make images`.
FROM scratch
LABEL org.opencontainers.image.title="api-client" \
      org.opencontainers.image.description="Enrolls a client and sends requests over mutual TLS" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY api-client /api-client
COPY --chown=65532:65532 owned/ /
USER 65532:65532
WORKDIR /data
# It ends by itself; there is nothing to ask it meanwhile.
HEALTHCHECK NONE
ENTRYPOINT ["/api-client"]
