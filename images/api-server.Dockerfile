# One static program, and the directories that volumes take their owner from. Made by `make images`.
FROM scratch
LABEL org.opencontainers.image.title="api-server" \
      org.opencontainers.image.description="A service that answers clients whose certificate is not revoked" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY api-server /api-server
# /data: its certificate, key and CRLs. /token: what the authority leaves for it.
COPY --chown=65532:65532 owned/ /
USER 65532:65532
EXPOSE 8443 8081
HEALTHCHECK --interval=3s --timeout=5s --start-period=30s --retries=3 CMD ["/api-server", "healthcheck"]
ENTRYPOINT ["/api-server"]
CMD ["--dir", "/data", "--token-file", "/token/token", "--listen", "0.0.0.0:8443", "--ops-listen", "0.0.0.0:8081"]
