// The errand of http_clients.py with Node's fetch: `node tests/kit/fetch_client.mjs URL`. It has no 100-continue.
const url = process.argv[2];
const body = new Uint8Array(256 * 4000).map((_, at) => at % 256);

async function ask(path, options) {
  return (await fetch(url + path, options)).text();
}

function stream() {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(body.subarray(at, at + 100_000));
      at += 100_000;
      if (at >= body.length) controller.close();
    },
  });
}

console.log(JSON.stringify({
  length: await ask('/take', {method: 'PUT', body}),
  chunked: await ask('/take', {method: 'PUT', body: stream(), duplex: 'half'}),
  gzip: await ask('/gzip'),
  hops: await ask('/hop/3'),
  away: await ask('/away'),
}));
