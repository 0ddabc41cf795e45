// The operations of received mails, their attachments, and of waiting for them.
// The mailbox holds one mail, "rich": HTML with an inline image and a link, a text part, and a PDF.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { MailSlurp } from 'mailslurp-client';
import { connectorOptions, environment, refusal, tellOperations } from './walking.ts';

const { basePath, apiKey, mailbox } = environment();
const slurp = new MailSlurp({ apiKey, basePath });
const { emailController: emails, inboxController: inboxes, attachmentController: attachments } = slurp;
const { waitController: waits, connectorController: connectors } = slurp;
const { id, inboxId } = await connectors.createConnectorWithOptions({
    createConnectorWithOptions: connectorOptions(mailbox, 'read'),
});
tellOperations();

// lists; the first of them syncs before it reads
const first = await inboxes.getInboxEmailsPaginated({ inboxId, syncConnectors: true });
assert.deepEqual(first.content?.map((email) => [email.subject, email.read]), [['rich', false]]);
const emailId = first.content?.[0].id ?? '';
assert.equal((await emails.getEmailsPaginated({ inboxId: [inboxId], unreadOnly: true })).totalElements, 1);
assert.equal((await slurp.getAllEmails(0, 10, [inboxId], 'ASC', false, 'pdf inside')).totalElements, 1);
assert.equal((await emails.getEmailsPaginated({ inboxId: [inboxId], searchFilter: 'not in it' })).totalElements, 0);
assert.equal((await emails.getEmailsOffsetPaginated({ inboxId: [], favourited: false })).totalElements, 1);
assert.equal((await emails.getOrganizationEmailsPaginated({ before: new Date(0) })).totalElements, 0);
const searched = await emails.searchEmails({
    searchEmailsOptions: { inboxIds: [inboxId], pageIndex: 0, pageSize: 5, searchFilter: 'RICH' },
    syncConnectors: true,
});
assert.equal(searched.content?.[0].id, emailId);
assert.equal((await slurp.getEmails(inboxId, { limit: 5, minCount: 1, retryTimeout: 1_000 })).length, 1);
assert.equal((await refusal(() => inboxes.getEmails({ inboxId: randomUUID() }))).status, 404);

// counts and marks
assert.equal((await emails.getUnreadEmailCount({ inboxId })).count, 1);
assert.equal((await emails.getEmailCount({ inboxId })).totalElements, 1);
assert.equal((await inboxes.getInboxEmailCount({ inboxId })).totalElements, 1);
assert.equal((await emails.getEmailSummary({ emailId })).read, false);
const email = await slurp.getEmail(emailId);
assert.deepEqual([email.read, email.isHTML, email.sender?.name], [true, true, 'Ada Lovelace']);
assert.equal((await refusal(() => emails.getEmail({ emailId: randomUUID() }))).status, 404);
assert.equal((await emails.markAsRead({ emailId, read: false })).read, false);
await emails.markAllAsRead({ inboxId });
assert.equal((await emails.getUnreadEmailCount({})).count, 0);
await emails.setEmailFavourited({ emailId, favourited: true });
assert.equal((await emails.getEmailsPaginated({ favourited: true })).totalElements, 1);
const unseen = await emails.applyImapFlagOperation({
    emailId, imapFlagOperationOptions: { flagOperation: 'REMOVE_FLAGS' as never, flags: ['\\Seen'] },
});
assert.equal(unseen.read, false);
assert.equal((await refusal(() => emails.applyImapFlagOperation({
    emailId, imapFlagOperationOptions: { flagOperation: 'ADD_FLAGS' as never, flags: ['\\Deleted'] },
}))).status, 400);

// what is in it
const bytes = await (await emails.getRawEmailContentsRaw({ emailId })).raw.text();
assert.match(bytes, /^Subject: rich/m);
assert.equal(await slurp.getRawEmail(emailId), undefined);
assert.equal((await emails.getRawEmailJson({ emailId })).content, bytes);
assert.match(await emails.getEmailHTML({ emailId }), /cid:picture@example/);
assert.match(await emails.getEmailHTML({ emailId, replaceCidImages: true }), /data:image\/png;base64,/);
assert.equal((await emails.getEmailHTMLJson({ emailId })).subject, 'rich');
assert.match(await emails.downloadBody({ emailId }), /<h1>Hello<\/h1>/);
assert.match(await emails.downloadBodyBytes({ emailId }), /<h1>Hello<\/h1>/);
assert.deepEqual((await emails.getEmailLinks({ emailId })).links, ['https://example.com/confirm?code=123456']);
assert.ok((await emails.getEmailTextLines({ emailId })).lines.includes('Hello'));
assert.deepEqual((await emails.getEmailHTMLQuery({ emailId, htmlSelector: 'h1' })).lines, ['Hello']);
assert.equal((await refusal(() => emails.getEmailHTMLQuery({ emailId, htmlSelector: '[[' }))).status, 400);
const code = await emails.getEmailContentMatch({ emailId, contentMatchOptions: { pattern: 'code=([0-9]{6})' } });
assert.deepEqual(code.matches, ['code=123456', '123456']);
assert.equal((await refusal(() => emails.getEmailContentMatch({
    emailId, contentMatchOptions: { pattern: '(' },
}))).status, 400);
assert.match((await emails.getEmailContentPart({ emailId, contentType: 'text/plain' })).content ?? '', /PDF inside/);
assert.match(await emails.getEmailContentPartContent({ emailId, contentType: 'text/html' }), /<h1>/);
assert.equal((await refusal(() => emails.getEmailContentPart({ emailId, contentType: 'text/calendar' }))).status, 404);
const urls = await emails.getEmailPreviewURLs({ emailId });
for (const url of [urls.rawSmtpMessageUrl, urls.plainHtmlBodyUrl]) {
    const at = new URL(url);
    at.searchParams.set('apiKey', apiKey);
    assert.equal((await fetch(at)).status, 200);
}

// attachments of the mail
const listed = await emails.getEmailAttachments({ emailId });
const pdf = listed.find((attachment) => attachment.contentType === 'application/pdf');
assert.ok(pdf);
assert.deepEqual([pdf.name, pdf.contentLength], ['report.pdf', 8]);
const attachmentId = pdf.id;
assert.equal((await slurp.getAttachmentMetaData(attachmentId, emailId)).name, 'report.pdf');
assert.equal(await slurp.downloadAttachment(emailId, attachmentId), '%PDF-1.7');
const encoded = await emails.downloadAttachmentBase64({ emailId, attachmentId });
assert.equal(Buffer.from(encoded.base64FileContents, 'base64').toString(), '%PDF-1.7');
assert.equal((await refusal(() => emails.downloadAttachment({ emailId, attachmentId: randomUUID() }))).status, 404);

// attachments by themselves
const [upload] = await slurp.uploadAttachment({
    filename: 'notes.txt', contentType: 'text/plain', base64Contents: Buffer.from('notes').toString('base64'),
});
const [octets] = await attachments.uploadAttachmentBytes(
    { filename: 'octets.bin', contentType: 'application/octet-stream' }, { body: Buffer.from([0, 255]) },
);
assert.equal((await refusal(() => attachments.uploadAttachment({
    uploadAttachmentOptions: { base64Contents: '!!!' },
}))).status, 400);
assert.equal((await attachments.getAttachments({ emailId })).totalElements, listed.length);
assert.equal((await attachments.getAttachments({ fileNameFilter: 'NOTES' })).content?.[0].attachmentId, upload);
assert.equal((await attachments.getAttachment({ attachmentId: upload })).name, 'notes.txt');
assert.equal((await attachments.getAttachmentInfo({ attachmentId: octets })).contentLength, 2);
assert.equal(await attachments.downloadAttachmentAsBytes({ attachmentId: upload }), 'notes');
const inBase64 = await attachments.downloadAttachmentAsBase64Encoded({ attachmentId: octets });
assert.deepEqual([...Buffer.from(inBase64.base64FileContents, 'base64')], [0, 255]);
await attachments.deleteAttachment({ attachmentId: octets });
assert.equal((await refusal(() => attachments.getAttachment({ attachmentId: octets }))).status, 404);

// waiting
assert.equal((await slurp.waitForLatestEmail(inboxId, 1_000)).id, emailId);
assert.equal((await waits.waitForNthEmail({ inboxId, index: 0, timeout: 1_000 })).id, emailId);
assert.equal((await slurp.waitForEmailCount(1, inboxId, 1_000)).length, 1);
const matching = { matches: [{ field: 'SUBJECT' as never, should: 'CONTAIN' as never, value: 'RICH' }] };
assert.equal((await slurp.waitForMatchingEmails(matching, 1, inboxId, 1_000)).length, 1);
assert.equal((await waits.waitForMatchingFirstEmail({ inboxId, matchOptions: matching, timeout: 1_000 })).id, emailId);
const conditions = { inboxId, count: 1, countType: 'EXACTLY' as never, timeout: 1_000, unreadOnly: false, ...matching };
assert.equal((await waits.waitFor({ waitForConditions: conditions })).length, 1);
const late = await refusal(() => waits.waitForLatestEmail({ inboxId, timeout: 50, unreadOnly: true }));
assert.equal(late.status, 408);
assert.ok(late.message.startsWith('Failed to satisfy email query for inbox') && late.message.includes(inboxId));
assert.equal((await refusal(() => waits.waitForLatestEmail({ timeout: 50 }))).status, 400);
await assert.rejects(slurp.waitForLatestEmail(inboxId, 50, true), { message: /Failed to satisfy email query/ });
assert.equal((await inboxes.getLatestEmailInInbox({ inboxId, timeoutMillis: 1_000 })).id, emailId);
assert.equal((await emails.getLatestEmail({ inboxIds: [inboxId] })).id, emailId);
assert.equal((await emails.getLatestEmailInInbox1({ inboxId })).id, emailId);

// deleting, and no sync brings back what was deleted
await slurp.deleteEmail(emailId);
assert.equal((await connectors.syncConnector({ id })).syncResult?.emailSyncCount, 0);
await inboxes.deleteAllInboxEmails({ inboxId });
await slurp.emptyInbox(inboxId);
await emails.deleteAllEmails({});
await attachments.deleteAllAttachments();
assert.equal((await attachments.getAttachments({})).totalElements, 0);
