// The snippets of the connectors' documentation as they stand there, through the controllers of the MailSlurp class.
// Only the base path and the mailbox are ours, and `expect`, which the page takes for granted.
import { type ConnectorSyncRequestResult, MailSlurp } from 'mailslurp-client';
import { environment, expect } from './walking.ts';

const { basePath, apiKey, mailbox: externalMailServer } = environment();
const externalInbox = { emailAddress: externalMailServer.imapUsername };
const connectorController = new MailSlurp({ apiKey, basePath }).connectorController;

const connector = await connectorController.createConnectorWithOptions({
    createConnectorWithOptions: {
        // configure email and name
        createConnectorOptions: {
            emailAddress: externalInbox.emailAddress,
            name: 'example-connector',
            enabled: true
        },
        // configure imap settings
        createConnectorImapConnectionOptions: {
            enabled: true,
            imapHost: externalMailServer.imapServerHost,
            imapPort: externalMailServer.imapServerPort,
            imapPassword: externalMailServer.imapPassword,
            imapUsername: externalMailServer.imapUsername,
            imapSsl: false,
            startTls: false
        },
        // configure smtp settings
        createConnectorSmtpConnectionOptions: {
            enabled: true,
            smtpHost: externalMailServer.smtpServerHost,
            smtpPort: externalMailServer.smtpServerPort,
            smtpPassword: externalMailServer.smtpPassword,
            smtpUsername: externalMailServer.smtpUsername,
            smtpSsl: false,
            startTls: false
        },
        // no automatic sync set
        createConnectorSyncSettingsOptions: undefined
    }
});

const testResult = await connectorController.testConnectorImapConnection({
    id: connector.id
})
expect(testResult.success).toBeTruthy();

const result: ConnectorSyncRequestResult = await connectorController.syncConnector({
    id: connector.id,
    // enable logging to debug
    logging: true
});
expect(result.syncResult?.emailIds?.length).toBeGreaterThan(0);
expect(result.syncResult?.emailSyncCount).toEqual(1);
// can view IMAP logs
expect(result.syncResult?.logs?.some(line => line.includes('CAPABILITY IMAP4rev1'))).toBeTruthy();
