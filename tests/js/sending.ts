// The operations that send, of what was sent, and of webhooks.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MailSlurp } from 'mailslurp-client';
import { connectorOptions, environment, refusal, tellOperations } from './walking.ts';

const { basePath, apiKey, mailbox } = environment();
const slurp = new MailSlurp({ apiKey, basePath });
const { inboxController: inboxes, emailController: emails, sentController: sent, webhookController: webhooks } = slurp;
const { id, inboxId } = await slurp.connectorController.createConnectorWithOptions({
    createConnectorWithOptions: connectorOptions(mailbox, 'sends'),
});
const me = mailbox.smtpUsername;
tellOperations();

// every way to send
const [attachmentId] = await slurp.uploadAttachment({
    filename: 'notes.txt', contentType: 'text/plain', base64Contents: Buffer.from('notes').toString('base64'),
});
const confirmed = await slurp.sendEmail(inboxId, {
    to: [me], subject: 'With notes', body: '<p>Hello</p>', isHTML: true, attachments: [attachmentId], fromName: 'Me',
});
assert.deepEqual([confirmed.subject, confirmed.isHTML, confirmed.to], ['With notes', true, [me]]);
assert.deepEqual(confirmed.attachments, [attachmentId]);
await inboxes.sendEmail({ inboxId, sendEmailOptions: { to: [me], subject: 'Plain', body: 'Hello' } });
await emails.sendEmailSourceOptional({ inboxId, sendEmailOptions: { to: [me], subject: 'Optional', body: 'Hello' } });
await slurp.commonController.sendEmailSimple({
    simpleSendEmailOptions: { senderId: inboxId, to: me, subject: 'Simple', body: 'Hello' },
});
await slurp.commonController.sendEmailQuery({ senderId: inboxId, to: me, subject: 'Query', body: 'Hello' });
const may = await emails.canSend({ inboxId, sendEmailOptions: { to: [me] } });
assert.equal(may.isSendingPermitted, true);
const alone = await inboxes.createInbox({});
assert.equal((await emails.canSend({ inboxId: alone.id, sendEmailOptions: { to: [me] } })).isSendingPermitted, false);
const unsendable = await refusal(() => inboxes.sendEmail({ inboxId: alone.id, sendEmailOptions: { to: [me] } }));
assert.ok(unsendable.status >= 400 && unsendable.status < 500);
await assert.rejects(slurp.sendEmail(inboxId, { to: ['nonsense'], body: 'x' }), { message: /^to/ });
assert.equal((await refusal(() => inboxes.sendEmailAndConfirm({
    inboxId, sendEmailOptions: { to: [me], attachments: [randomUUID()] },
}))).status, 400);

// what arrived is answered and handed on
await slurp.connectorController.syncConnector({ id });
const arrived = await emails.getEmailsPaginated({ inboxId: [inboxId], searchFilter: 'With notes' });
const emailId = arrived.content?.[0].id ?? '';
assert.equal((await emails.getEmailAttachments({ emailId }))[0].name, 'notes.txt');
const reply = await emails.replyToEmail({ emailId, replyToEmailOptions: { body: 'Thanks', isHTML: false } });
assert.deepEqual([reply.subject, reply.to, reply.inReplyTo], ['Re: With notes', [me], confirmed.messageId]);
const forward = await emails.forwardEmail({ emailId, forwardEmailOptions: { to: [me] } });
assert.match(forward.subject ?? '', /With notes/);
assert.equal((await refusal(() => emails.forwardEmail({ emailId, forwardEmailOptions: { to: [] } }))).status, 400);

// what was sent
assert.equal((await sent.getSentEmails({ inboxId, searchFilter: 'SIMPLE' })).totalElements, 1);
assert.equal((await inboxes.getInboxSentEmails({ inboxId, sort: 'DESC' as never })).content?.[0].id, forward.id);
assert.equal((await inboxes.getInboxSentCount({ inboxId })).totalElements, 7);
assert.equal((await sent.getSentEmail({ id: confirmed.id })).messageId, confirmed.messageId);
assert.match(await sent.getSentEmailHTMLContent({ id: confirmed.id }), /<p>Hello<\/p>/);
const raw = await (await sent.getRawSentEmailContentsRaw({ emailId: confirmed.id })).raw.text();
assert.match(raw, /^Subject: With notes/m);
assert.equal((await sent.getRawSentEmailJson({ emailId: confirmed.id })).content, raw);
const at = new URL((await sent.getSentEmailPreviewURLs({ id: confirmed.id })).rawSmtpMessageUrl);
at.searchParams.set('apiKey', apiKey);
assert.equal((await fetch(at)).status, 200);
assert.equal((await refusal(() => sent.getSentEmail({ id: randomUUID() }))).status, 404);
await sent.deleteSentEmail({ id: confirmed.id });
await sent.deleteAllSentEmails();
assert.equal((await sent.getSentEmails({})).totalElements, 0);

// webhooks: new mail is posted
const posted: { event: string; body: Record<string, unknown> }[] = [];
const receiver = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString());
    posted.push({ event: body.eventName, body });
    response.end('thanks');
    receiver.emit('posted');
});
receiver.listen(0, '127.0.0.1');
await once(receiver, 'listening');
const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
const hook = await webhooks.createWebhook({
    inboxId, createWebhookOptions: { url, name: 'hook', eventName: 'NEW_EMAIL' as never },
});
assert.deepEqual([hook.method, hook.basicAuth, hook.inboxId], ['POST', false, inboxId]);
const account = await webhooks.createAccountWebhook({
    createWebhookOptions: { url: `${url}/all`, eventName: 'EMAIL_READ' as never, basicAuth: { username: 'u', password: 'p' } },
});
assert.equal(account.basicAuth, true);
assert.equal((await refusal(() => webhooks.createWebhook({
    inboxId, createWebhookOptions: { url: 'ftp://example.com' },
}))).status, 400);
assert.deepEqual((await webhooks.getWebhooks({ inboxId })).map((webhook) => webhook.id), [hook.id]);
assert.equal((await webhooks.getInboxWebhooksPaginated({ inboxId })).totalElements, 1);
assert.equal((await webhooks.getAllWebhooks({})).totalElements, 2);
assert.equal((await webhooks.getWebhook({ webhookId: hook.id })).url, url);
const renamed = await webhooks.updateWebhook({
    webhookId: hook.id, createWebhookOptions: { url, name: 'renamed', eventName: 'NEW_EMAIL' as never },
});
assert.equal(renamed.name, 'renamed');
const tested = await webhooks.sendTestData({ webhookId: hook.id });
assert.equal(tested.response.statusCode, 200);
assert.equal(posted.length, 1);
const real = once(receiver, 'posted');
await slurp.connectorController.sendEmailFromConnector({
    id, sendEmailOptions: { to: [me], subject: 'For the hook', body: 'Hello' },
});
// every sync from here on brings this mail, and those sent above that no sync has read yet
await slurp.connectorController.syncConnector({ id });
await real;
while (!posted.some(({ body }) => body.subject === 'For the hook')) await once(receiver, 'posted');
const payload = posted.find(({ body }) => body.subject === 'For the hook')?.body ?? {};
assert.deepEqual([payload.webhookId, payload.inboxId, payload.to], [hook.id, inboxId, [me]]);
let results = await webhooks.getWebhookResults({ webhookId: hook.id });
while (!results.totalElements) results = await webhooks.getWebhookResults({ webhookId: hook.id });
assert.equal(results.content?.[0].resultType, 'SUCCESS');
await webhooks.deleteWebhook({ inboxId, webhookId: hook.id });
await webhooks.deleteWebhookById({ webhookId: account.id });
assert.equal((await webhooks.getAllWebhooks({})).totalElements, 0);
receiver.closeAllConnections();
receiver.close();
