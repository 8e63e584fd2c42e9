// A host behind HTTPS that records what it saw. Started by tests with the files of its key and its chain,
// "h1" where it is to speak HTTP/1.1 only, and its address. Says its port, then one line of JSON for each request, when
// its head has come and when its body has. Takes commands as lines of JSON on stdin:
//   {"accept": "TOKEN"}  from now on, other tokens are answered 401; null takes all
//   {"go": true}         the next event of /events leaves
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { createServer } from "node:https";
import { createInterface } from "node:readline";
import { gzipSync } from "node:zlib";

const [key, cert, protocol, at] = process.argv.slice(2);
const options = { key: readFileSync(key), cert: readFileSync(cert), allowHTTP1: true };
const server = protocol === "h1" ? createServer(options) : createSecureServer(options);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

let accept = null;
let waiting = [];
createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if ("accept" in command) accept = command.accept;
  if (command.go) waiting.splice(0).forEach((go) => go());
}).on("close", () => process.exit());

let connections = 0;
server.on("secureConnection", (socket) => {
  socket.number = ++connections;
});
const numberOf = (req) => (req.stream?.session?.socket ?? req.socket).number;

const answers = {
  "/echo": (req, res) => {
    res.writeHead(200, { "x-echo": String(req.headers.authorization) });
    req.pipe(res);
  },
  "/forms": (req, res) => {
    const token = req.headers.authorization.slice("Bearer ".length);
    const forms = [token, btoa(`user:${token}`), Buffer.from(token).toString("hex")];
    res.end(JSON.stringify([...forms, encodeURIComponent(token)]));
  },
  "/split": (req, res) => {
    const text = `before ${req.headers.authorization} after`;
    const step = (at) => {
      if (at >= text.length) return res.end();
      res.write(text.slice(at, at + 3));
      setImmediate(step, at + 3);
    };
    step(0);
  },
  "/events": (req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    let number = 0;
    const event = () => {
      res.write(`data: event ${++number}\n\n`);
      waiting.push(event);
    };
    event();
  },
  "/redirect": (req, res, url) => {
    res.writeHead(302, { location: url.searchParams.get("to") }).end();
  },
  "/links": (req, res) => {
    const at = `https://${req.headers[":authority"] ?? req.headers.host}`;
    res.setHeader("link", `<${at}/links?page=2>; rel="next", <https://other.example/>; rel="last"`);
    res.setHeader("set-cookie", "session=as-good-as-the-token");
    res.end("[]");
  },
  "/gzip": (req, res) => {
    res.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("compressed"));
  },
  "/bytes": (req, res, url) => {
    let left = Number(url.searchParams.get("count"));
    const piece = Buffer.alloc(64 * 1024, "a piece of something large. ");
    const more = () => {
      while (left > 0) {
        const part = piece.subarray(0, Math.min(left, piece.length));
        left -= part.length;
        if (!res.write(part)) return res.once("drain", more);
      }
      res.end();
    };
    more();
  },
  "/trailers": (req, res) => {
    res.setHeader("trailer", "x-end");
    res.write("body");
    res.addTrailers({ "x-end": `of ${req.headers.authorization}` });
    res.end();
  },
  "/silence": () => {},
  "/break": (req, res) => {
    res.writeHead(200, { "content-length": "1000" });
    res.write("not all of it");
    setImmediate(() => (req.stream?.session ?? req.socket).destroy());
  },
  "/teapot": (req, res) => {
    res.writeHead(418, { "content-type": "text/plain" }).end("short and stout");
  },
};

server.on("request", (req, res) => {
  const url = new URL(req.url, "https://localhost");
  const headers = Object.fromEntries(Object.entries(req.headers).filter(([name]) => name[0] !== ":"));
  say({
    saw: `${req.method} ${req.url}`,
    host: req.headers[":authority"] ?? req.headers.host,
    version: req.httpVersion,
    connection: numberOf(req),
    headers,
  });
  req.on("aborted", () => say({ aborted: req.url }));
  req.on("error", () => {});
  res.on("error", () => {});
  if (accept !== null && req.headers.authorization !== `Bearer ${accept}`) {
    res.writeHead(401, { "www-authenticate": "Bearer error=\"invalid_token\"" });
    return res.end(`bad token ${req.headers.authorization}`);
  }
  const answer = answers[url.pathname];
  if (answer) return answer(req, res, url);
  const hash = createHash("sha256");
  let bytes = 0;
  req.on("data", (data) => {
    hash.update(data);
    bytes += data.length;
  });
  req.on("end", () => {
    say({ read: req.url, bytes, trailers: req.trailers });
    res.end(JSON.stringify({ method: req.method, url: req.url, bytes, sha256: hash.digest("hex") }));
  });
});
const [host, port] = at.split(":");
server.listen(Number(port), host, () => say({ port: server.address().port }));
