// Node's https module, in a tunnel that the program opens itself: GETs URL, or PUTs the file UPLOAD to it. It has no other way to use
// a proxy up to Node 22.
import fs from "node:fs";
import http from "node:http";
import https from "node:https";

const { URL: url, UPLOAD: upload, HTTPS_PROXY } = process.env;
const target = new URL(url), proxy = new URL(HTTPS_PROXY);
const fail = (error) => { console.error(String(error)); process.exit(1); };
const connect = { host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target.host, headers: { Host: target.host } };
http.request(connect).on("error", fail).on("connect", (reply, socket) => {
    if (reply.statusCode !== 200) fail(`CONNECT: ${reply.statusCode} ${reply.statusMessage}`);
    const asks = { socket, agent: false, method: upload ? "PUT" : "GET" };
    if (upload) asks.headers = { "Content-Length": fs.statSync(upload).size };
    const request = https.request(target, asks, (answer) => {
        let body = "";
        answer.on("data", (piece) => { body += piece; }).on("end", () => {
            if (answer.statusCode !== 200) fail(`status ${answer.statusCode} ${answer.statusMessage}`);
            console.log(body);
        });
    });
    request.on("error", fail);
    if (upload) fs.createReadStream(upload).pipe(request); else request.end();
}).end();
