// Every operation of the ConnectorController, the happy ways and the unhappy ones.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { MailSlurp } from 'mailslurp-client';
import { connectorOptions, environment, refusal, tellOperations } from './walking.ts';

const { basePath, apiKey, mailbox } = environment();
const { connectorController: connectors, inboxController: inboxes } = new MailSlurp({ apiKey, basePath });
const options = connectorOptions(mailbox, 'walked');
const imap = options.createConnectorImapConnectionOptions;
const smtp = options.createConnectorSmtpConnectionOptions;
tellOperations();

const presets = await connectors.getConnectorProviderSettings();
assert.equal(presets.googleSettings.imapHost, 'imap.gmail.com');
assert.equal(presets.microsoftSettings.smtpPort, 587);

const whole = await connectors.createConnectorWithOptions({ createConnectorWithOptions: options });
assert.equal(whole.emailAddress, mailbox.imapUsername);
assert.ok(whole.createdAt instanceof Date && !Number.isNaN(whole.createdAt.getTime()));
const chosen = await inboxes.createInbox({ name: 'chosen' });
const bare = await connectors.createConnector({ inboxId: chosen.id, createConnectorOptions: { name: 'bare' } });
assert.equal(bare.inboxId, chosen.id);
assert.equal((await refusal(() => connectors.createConnector({
    inboxId: randomUUID(), createConnectorOptions: {},
}))).status, 404);

const page = await connectors.getConnectors({ page: 0, size: 1, sort: 'DESC' as never });
assert.deepEqual([page.totalElements, page.totalPages, page.content?.[0].id], [2, 2, bare.id]);
assert.equal((await connectors.getConnector({ id: whole.id })).name, 'walked');
assert.equal((await refusal(() => connectors.getConnector({ id: randomUUID() }))).status, 404);
assert.equal((await refusal(() => connectors.getConnector({ id: 'nonsense' }))).status, 404);
const renamed = await connectors.updateConnector({ id: bare.id, createConnectorOptions: { name: 'renamed' } });
assert.deepEqual([renamed.name, renamed.enabled], ['renamed', true]);
assert.equal((await connectors.getConnectorByName({ name: 'renamed' })).result?.id, bare.id);
assert.equal((await connectors.getConnectorByName({ name: 'nobody' })).present, false);
assert.equal((await connectors.getConnectorByInboxId({ inboxId: whole.inboxId })).result?.id, whole.id);
const byAddress = await connectors.getConnectorByEmailAddress({ emailAddress: mailbox.imapUsername.toUpperCase() });
assert.equal(byAddress.result?.id, whole.id);

// connections
assert.equal((await connectors.getConnectorImapConnection({ id: bare.id })).present, false);
assert.equal((await connectors.testConnectorImapConnection({ id: bare.id })).success, false);
const madeImap = await connectors.createConnectorImapConnection({
    id: bare.id, createConnectorImapConnectionOptions: imap,
});
assert.deepEqual([madeImap.imapHost, madeImap.imapPort], [imap.imapHost, imap.imapPort]);
assert.ok(madeImap.imapPassword == null);
const changedImap = await connectors.updateConnectorImapConnection({
    id: bare.id, createConnectorImapConnectionOptions: { imapHost: imap.imapHost, selectFolder: 'INBOX' },
});
assert.equal(changedImap.selectFolder, 'INBOX');
assert.equal((await connectors.getConnectorImapConnection({ id: bare.id })).result?.imapUsername, imap.imapUsername);
assert.equal((await connectors.testConnectorImapConnection({ id: bare.id })).success, true);
const wrong = { ...imap, imapPassword: 'wrong' };
const failed = await connectors.testConnectorImapConnectionOptions({ createConnectorImapConnectionOptions: wrong });
assert.ok(!failed.success && failed.error && failed.logs?.length);
const madeSmtp = await connectors.createConnectorSmtpConnection({
    id: bare.id, createConnectorSmtpConnectionOptions: smtp,
});
assert.equal(madeSmtp.smtpPort, smtp.smtpPort);
await connectors.updateConnectorSmtpConnection({
    id: bare.id, createConnectorSmtpConnectionOptions: { smtpHost: smtp.smtpHost, localHostName: 'walk.example' },
});
const smtpConnection = await connectors.getConnectorSmtpConnection({ id: bare.id });
assert.equal(smtpConnection.result?.localHostName, 'walk.example');
assert.equal((await connectors.testConnectorSmtpConnection({ id: bare.id })).success, true);
const tested = await connectors.testConnectorSmtpConnectionOptions({ createConnectorSmtpConnectionOptions: smtp });
assert.equal(tested.success, true);
const foreign = await refusal(() => connectors.updateConnectorImapConnection({
    id: bare.id, createConnectorImapConnectionOptions: { imapHost: 'elsewhere.example' },
}));
assert.equal(foreign.status, 400);
assert.match(foreign.message, /imapPassword/);

// syncs, sends and their events
const settings = await connectors.createConnectorSyncSettings({
    id: bare.id, createConnectorSyncSettingsOptions: { syncEnabled: false, syncInterval: 10 },
});
assert.deepEqual([settings.syncEnabled, settings.syncInterval], [false, 10]);
assert.equal((await connectors.getConnectorSyncSettings({ id: bare.id })).result?.syncScheduleType, 'INTERVAL');
await connectors.deleteConnectorSyncSettings({ id: bare.id });
assert.equal((await connectors.getConnectorSyncSettings({ id: bare.id })).present, false);
const synced = await connectors.syncConnector({ id: whole.id, since: new Date('2020-01-01'), logging: true });
assert.ok((synced.syncResult?.emailSyncCount ?? 0) > 0);
const astray = await connectors.syncConnector({ id: whole.id, folder: 'No such folder' });
assert.ok(astray.exception && !astray.syncResult && astray.eventId);
const sent = await connectors.sendEmailFromConnector({
    id: whole.id, sendEmailOptions: { to: [mailbox.imapUsername], subject: 'From the connector', body: 'Hello' },
});
assert.equal(sent.inboxId, whole.inboxId);
const events = await connectors.getConnectorEvents({ id: whole.id, eventType: 'SYNC' as never, sort: 'DESC' as never });
assert.deepEqual(events.content?.map((event) => event.status), ['CONNECTION_ERROR', 'SUCCESS']);
const everywhere = await connectors.getAllConnectorEvents({ id: whole.id, eventType: 'SEND' as never });
assert.equal(everywhere.totalElements, 1);
assert.match((await connectors.getConnectorEvent({ id: synced.eventId ?? '' })).logs ?? '', /CAPABILITY/);

await connectors.deleteConnectorImapConnection({ id: bare.id });
await connectors.deleteConnectorSmtpConnection({ id: bare.id });
await connectors.deleteConnector({ id: bare.id });
assert.equal((await refusal(() => connectors.deleteConnector({ id: bare.id }))).status, 404);
await connectors.deleteAllConnector();
assert.equal((await connectors.getConnectors({})).totalElements, 0);

// a wrong key is told apart from everything else
const stranger = new MailSlurp({ apiKey: 'wrong', basePath }).connectorController;
assert.equal((await refusal(() => stranger.getConnectors({}))).status, 401);
