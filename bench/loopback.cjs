// Preloaded into the peers: a server that names no address listens on 127.0.0.1 and nowhere else.
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  if (args.length === 0 || typeof args[0] === "function") {
    return listen.call(this, 0, "127.0.0.1", ...args);
  }
  return listen.apply(this, args);
};
