// GETs URLs through a proxy with undici's ProxyAgent. The proxy's password is in its URL.
//
// Environment: URL (one or more, with spaces between), PROXY, CA, and for a client certificate CERT and KEY; UNDICI is the path
// of the package. The bodies go to stdout.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { ProxyAgent, request } = createRequire(process.env.UNDICI)("undici");

const { URL: urls, PROXY, CA, CERT, KEY } = process.env;
const ca = readFileSync(CA);
const own = CERT ? { cert: readFileSync(CERT), key: readFileSync(KEY) } : {};
const dispatcher = new ProxyAgent({ uri: PROXY, proxyTls: { ca, ...own }, requestTls: { ca } });
for (const url of urls.split(" ")) {
  const { statusCode, statusText, body } = await request(url, { dispatcher });
  if (statusCode !== 200) throw new Error(`status ${statusCode} ${statusText}`);
  process.stdout.write(Buffer.from(await body.arrayBuffer()));
}
await dispatcher.close();
