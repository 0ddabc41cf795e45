// What the scripts share: where the server is, a few words of jest, and a record of what was asked.
import assert from 'node:assert/strict';

export interface Mailbox {
    imapServerHost: string;
    imapServerPort: number;
    imapUsername: string;
    imapPassword: string;
    smtpServerHost: string;
    smtpServerPort: number;
    smtpUsername: string;
    smtpPassword: string;
}

export interface Environment {
    basePath: string;
    apiKey: string;
    mailbox: Mailbox;
}

/** What the test handed over. */
export function environment(): Environment {
    return JSON.parse(process.env.WALK ?? '{}');
}

/** The part of jest's expect that the documentation uses. */
export function expect(given: unknown) {
    return {
        toBeTruthy: () => assert.ok(given),
        toEqual: (wanted: unknown) => assert.deepEqual(given, wanted),
        toBeGreaterThan: (least: number) => assert.ok(typeof given === 'number' && given > least, `${given} > ${least}`),
    };
}

type Call = () => Promise<unknown>;

/** Print every operation that is asked from now on, for the test to count. */
export function tellOperations(): void {
    const real = globalThis.fetch;
    globalThis.fetch = (input, init) => {
        const { pathname } = new URL(String(input));
        console.log(`${init?.method ?? 'GET'} ${pathname}`);
        return real(input, init);
    };
}

/** The status and message of a call's refusal; controllers throw the response itself. */
export async function refusal(call: Call): Promise<{ status: number; message: string }> {
    const thrown = await call().then(
        () => assert.fail('it was not refused'),
        (reason: unknown) => reason,
    );
    assert.ok(thrown instanceof Response, String(thrown));
    const body = (await thrown.json()) as { message: string };
    assert.equal(typeof body.message, 'string');
    return { status: thrown.status, message: body.message };
}

/** The options of a connector on the mailbox of the test, synced only when asked. */
export function connectorOptions(mailbox: Mailbox, name: string) {
    return {
        createConnectorOptions: { emailAddress: mailbox.imapUsername, name, enabled: true },
        createConnectorImapConnectionOptions: {
            enabled: true,
            imapHost: mailbox.imapServerHost,
            imapPort: mailbox.imapServerPort,
            imapUsername: mailbox.imapUsername,
            imapPassword: mailbox.imapPassword,
            imapSsl: false,
            startTls: false,
        },
        createConnectorSmtpConnectionOptions: {
            enabled: true,
            smtpHost: mailbox.smtpServerHost,
            smtpPort: mailbox.smtpServerPort,
            smtpUsername: mailbox.smtpUsername,
            smtpPassword: mailbox.smtpPassword,
            smtpSsl: false,
            startTls: true,
        },
    };
}
