// An HTTP/2 server without TLS, as Node has it: /never is not answered, /late half until /now is asked for.
import http2 from "node:http2";

const server = http2.createServer();
const late = [];
server.on("stream", (stream, headers) => {
  stream.on("error", () => {}); // given up by who asked
  const path = headers[":path"];
  if (path === "/never") return;
  stream.respond({ ":status": 200 });
  if (path === "/late") {
    stream.write("half, ");
    late.push(stream);
    return;
  }
  if (path === "/now") late.forEach((waiting) => waiting.end("and half"));
  stream.end("said");
});
server.on("sessionError", () => {});
server.listen(0, "127.0.0.1", () => console.log(`port ${server.address().port}`));
