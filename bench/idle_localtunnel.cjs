// Opens COUNT tunnels at a localtunnel server, prints "open N" after each batch asked for on stdin, and stays.
// argv: server URL, local port, path of the localtunnel module.
const [server, port, module_path] = process.argv.slice(2);
const localtunnel = require(module_path);
let opened = 0;
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  for (let more = Number(line); more > 0; more -= 1) {
    await localtunnel({ port: Number(port), host: server, subdomain: `idle${String(opened).padStart(5, "0")}` });
    opened += 1;
  }
  console.log(`open ${opened}`);
});
