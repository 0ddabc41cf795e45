// The operations of inboxes, the common actions and the user.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { MailSlurp } from 'mailslurp-client';
import { connectorOptions, environment, refusal, tellOperations } from './walking.ts';

const { basePath, apiKey, mailbox } = environment();
const slurp = new MailSlurp({ apiKey, basePath });
const { inboxController: inboxes, commonController: common } = slurp;
tellOperations();

const user = await slurp.userController.getUserInfo();
assert.equal(user.accountState, 'ACTIVE');

const named = await slurp.createInbox('walker@local.example', 'named', 'A description', undefined, true, ['blue']);
assert.deepEqual([named.emailAddress, named.favourite, named.tags], ['walker@local.example', true, ['blue']]);
assert.equal(named.userId, user.id);
assert.equal((await refusal(() => inboxes.createInbox({ emailAddress: 'walker@local.example' }))).status, 409);
assert.equal((await refusal(() => inboxes.createInbox({ emailAddress: 'nonsense' }))).status, 400);
const optioned = await slurp.createInboxWithOptions({ name: 'optioned', expiresIn: 3_600_000, tags: ['green'] });
assert.ok(optioned.expiresAt && optioned.expiresAt.getTime() > Date.now());
const plain = await inboxes.createInboxWithDefaults();
const fresh = await common.createNewEmailAddress({});
const random = await common.createRandomInbox({});
assert.equal(new Set([named, optioned, plain, fresh, random].map((inbox) => inbox.emailAddress)).size, 5);

const linked = await slurp.connectorController.createConnectorWithOptions({
    createConnectorWithOptions: connectorOptions(mailbox, 'linked'),
});
assert.equal((await inboxes.getInbox({ inboxId: linked.inboxId })).functionsAs, 'CONNECTOR');
assert.equal((await refusal(() => inboxes.getInbox({ inboxId: randomUUID() }))).status, 404);
assert.equal((await refusal(() => inboxes.getInbox({ inboxId: 'x' }))).status, 404);
assert.equal((await slurp.getInboxes()).length, 6);
assert.equal((await slurp.getAllInboxes(0, 2)).totalPages, 3);
const favourites = await inboxes.getAllInboxesOffsetPaginated({ favourite: true, sort: 'DESC' as never });
assert.deepEqual(favourites.content?.map((inbox) => inbox.id), [named.id]);
const found = await inboxes.searchInboxes({ searchInboxesOptions: { search: 'DESCRIP', pageIndex: 0, pageSize: 5 } });
assert.deepEqual(found.content?.map((inbox) => inbox.id), [named.id]);
const tagged = await inboxes.getAllInboxes({ tag: 'green' });
assert.deepEqual(tagged.content?.map((inbox) => inbox.id), [optioned.id]);
const connected = await inboxes.getAllInboxes({ inboxFunction: 'CONNECTOR' as never });
assert.deepEqual(connected.content?.map((inbox) => inbox.id), [linked.inboxId]);
const byAddress = await inboxes.getInboxByEmailAddress({ emailAddress: 'Walker@local.example' });
assert.deepEqual([byAddress._exists, byAddress.inboxId], [true, named.id]);
assert.equal((await inboxes.getInboxByName({ name: 'nobody' }))._exists, false);
assert.equal((await inboxes.doesInboxExist({ emailAddress: 'walker@local.example' }))._exists, true);
assert.equal((await inboxes.getInboxIds()).inboxIds.length, 6);
assert.equal((await inboxes.getInboxCount()).totalElements, 6);
const changed = await inboxes.updateInbox({ inboxId: plain.id, updateInboxOptions: { name: 'now named', tags: ['a', 'b'] } });
assert.deepEqual([changed.name, changed.tags], ['now named', ['a', 'b']]);
const liked = await inboxes.setInboxFavourited({ inboxId: plain.id, setInboxFavouritedOptions: { state: true } });
assert.equal(liked.favourite, true);

assert.equal((await refusal(() => inboxes.deleteInbox({ inboxId: linked.inboxId }))).status, 409);
await common.deleteEmailAddress({ inboxId: fresh.id });
await slurp.deleteInbox(random.id);
assert.equal((await refusal(() => inboxes.deleteInbox({ inboxId: random.id }))).status, 404);
await inboxes.deleteAllInboxes({});
assert.deepEqual((await inboxes.getInboxIds()).inboxIds.map((item) => item.id), [linked.inboxId]);
