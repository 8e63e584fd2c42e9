// A web site of one page, for a browser: site.mjs ADDRESS PORT [KEY CERTIFICATE]. Says "ready" on stdout, then a
// line for each request: the name that it was asked by, and the path.

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const PAGE = `<!doctype html>
<html lang="en"><title>Front desk</title>
<h1>Welcome, stranger</h1>
<label>Name <input id="name"></label>
<button id="greet">Greet</button>
<p role="status" id="said"></p>
<img alt="" src="//api.acme.lan/pixel.png">
<script>
  const by = (id) => document.getElementById(id);
  by("greet").onclick = async () => {
    const answer = await fetch("/greeting?name=" + encodeURIComponent(by("name").value));
    by("said").textContent = await answer.text();
  };
</script>`;

const [address, port, key, certificate] = process.argv.slice(2);

function answer(request, response) {
  const url = new URL(request.url, "http://site");
  // Any page may read this site: what keeps one from it is not the browser's own rule.
  response.setHeader("Access-Control-Allow-Origin", "*");
  process.stdout.write(`${request.headers.host} ${url.pathname}\n`);
  if (url.pathname === "/") {
    response.setHeader("Content-Type", "text/html; charset=utf-8").end(PAGE);
  } else if (url.pathname === "/greeting") {
    response.setHeader("Content-Type", "text/plain").end(`Hello, ${url.searchParams.get("name")}!`);
  } else {
    response.writeHead(404).end();
  }
}

const server = key
  ? https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, answer)
  : http.createServer(answer);
server.listen(Number(port), address, () => process.stdout.write("ready\n"));
