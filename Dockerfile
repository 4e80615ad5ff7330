# arbstr as one static binary in an empty image. Build: docker build -t arbstr .
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make perl
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin arbstr && cp target/release/arbstr /arbstr
RUN mkdir -p /empty/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /empty/data /data
COPY --from=build /arbstr /arbstr
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/arbstr"]
CMD ["serve", "-c", "/etc/arbstr/arbstr.toml"]
