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
