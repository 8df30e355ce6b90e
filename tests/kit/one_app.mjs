// One application for every kind of client, in HTTP/2 without TLS. Prints its port.
//
//   GET  /             a page
//   any  /echo/...     method, path and body
//   POST /t/Echo       gRPC: the message back
//   POST /t/Count      gRPC, a stream: the message five times

import http2 from "node:http2";

const COUNT = 5;

const server = http2.createServer();
server.on("stream", (stream, fields) => {
  const asked = [];
  stream.on("error", () => {}); // a visitor that leaves
  stream.on("data", (piece) => asked.push(piece));
  stream.on("end", () => {
    if (stream.destroyed) return;
    const body = Buffer.concat(asked);
    const [method, path] = [fields[":method"], fields[":path"]];
    if (path.startsWith("/t/")) {
      stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.concat(Array(path === "/t/Count" ? COUNT : 1).fill(body)));
    } else if (path === "/") {
      stream.respond({ "content-type": "text/html" });
      stream.end("<!doctype html><title>one application</title>");
    } else {
      stream.respond({ "content-type": "text/plain" });
      stream.end(`${method} ${path} ${body}`);
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(`port ${server.address().port}`));
