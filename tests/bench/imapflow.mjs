// A peer of the first sync: imapflow fetches every message, SQLite (Node's own) keeps the bytes and what came with them.
import { createRequire } from "node:module";
import { DatabaseSync } from "node:sqlite";

const [folder, host, port, user, pass, path] = process.argv.slice(2);
const { ImapFlow } = createRequire(`${folder}/`)("imapflow");
const database = new DatabaseSync(path);
for (const pragma of ["page_size = 32768", "journal_mode = WAL", "synchronous = FULL"]) database.exec(`PRAGMA ${pragma}`);
database.exec("CREATE TABLE message (uid INTEGER PRIMARY KEY, flags TEXT, received TEXT, raw BLOB)");
const insert = database.prepare("INSERT INTO message VALUES (?, ?, ?, ?)");
const client = new ImapFlow({
  host, port: Number(port), secure: false, doSTARTTLS: false, disableCompression: true, auth: { user, pass }, logger: false,
});
await client.connect();
await client.mailboxOpen("INBOX", { readOnly: true });
let room = 0;
let count = 0;
const wanted = { uid: true, flags: true, internalDate: true, size: true, source: true };
for await (const message of client.fetch("1:*", wanted, { uid: true })) {
  if (room <= 0) {
    if (count) database.exec("COMMIT");
    database.exec("BEGIN IMMEDIATE");
    room = 16 << 20;
  }
  insert.run(message.uid, [...message.flags].join(" "), message.internalDate.toISOString(), message.source);
  room -= message.source.length;
  count += 1;
}
if (count) database.exec("COMMIT");
await client.logout();
console.log(count);
