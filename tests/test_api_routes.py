"""The route table: what it promises is what the handlers take."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from api_site import SDK
from inboxd.api.answers import File, Page
from inboxd.api.app import Node
from inboxd.api.intake import PATH_PARAMETERS
from inboxd.api.routes import ROUTES
from inboxd.api.wire.shapes import Answer, Request

_OPERATIONS: Final = {
    "ConnectorController": """
        createConnectorWithOptions createConnector getConnectors getConnector updateConnector deleteConnector
        deleteAllConnector getConnectorByName getConnectorByInboxId getConnectorByEmailAddress
        getConnectorProviderSettings createConnectorImapConnection getConnectorImapConnection
        updateConnectorImapConnection deleteConnectorImapConnection testConnectorImapConnection
        testConnectorImapConnectionOptions createConnectorSmtpConnection getConnectorSmtpConnection
        updateConnectorSmtpConnection deleteConnectorSmtpConnection testConnectorSmtpConnection
        testConnectorSmtpConnectionOptions createConnectorSyncSettings getConnectorSyncSettings
        deleteConnectorSyncSettings syncConnector sendEmailFromConnector getConnectorEvents
        getAllConnectorEvents getConnectorEvent
    """,
    "InboxController": """
        createInbox getInbox getInboxes getAllInboxes getEmails getInboxEmailsPaginated sendEmail
        sendEmailAndConfirm deleteInbox createInboxWithOptions createInboxWithDefaults updateInbox
        getAllInboxesOffsetPaginated searchInboxes getInboxByEmailAddress getInboxByName doesInboxExist
        getInboxIds getInboxCount getInboxEmailCount getLatestEmailInInbox deleteAllInboxEmails deleteAllInboxes
        getInboxSentEmails getInboxSentCount setInboxFavourited
    """,
    "EmailController": """
        getEmail getEmailsPaginated getEmailsOffsetPaginated searchEmails getRawEmailContents getRawEmailJson
        getEmailHTML getEmailAttachments getAttachmentMetaData downloadAttachment downloadAttachmentBase64
        markAsRead deleteEmail getEmailSummary getEmailHTMLJson downloadBody downloadBodyBytes getEmailLinks
        getEmailTextLines getEmailHTMLQuery getEmailContentMatch getEmailContentPart getEmailContentPartContent
        getLatestEmail getLatestEmailInInbox1 getEmailCount getUnreadEmailCount markAllAsRead setEmailFavourited
        applyImapFlagOperation deleteAllEmails getEmailPreviewURLs replyToEmail forwardEmail
        sendEmailSourceOptional canSend getOrganizationEmailsPaginated
    """,
    "WaitForController": """
        waitForLatestEmail waitForNthEmail waitForEmailCount waitForMatchingEmails waitForMatchingFirstEmail
        waitFor
    """,
    "SentEmailsController": """
        getSentEmails getSentEmail getSentEmailHTMLContent getRawSentEmailContents getRawSentEmailJson
        getSentEmailPreviewURLs deleteSentEmail deleteAllSentEmails
    """,
    "AttachmentController": """
        uploadAttachment uploadAttachmentBytes getAttachments getAttachment getAttachmentInfo
        downloadAttachmentAsBytes downloadAttachmentAsBase64Encoded deleteAttachment deleteAllAttachments
    """,
    "CommonActionsController": """
        emptyInbox createNewEmailAddress createRandomInbox deleteEmailAddress sendEmailSimple sendEmailQuery
    """,
    "WebhookController": """
        createWebhook getWebhooks getInboxWebhooksPaginated deleteWebhook createAccountWebhook getAllWebhooks
        getWebhook updateWebhook deleteWebhookById sendTestData getWebhookResults
    """,
    "UserController": """
        getUserInfo
    """,
}


def test_every_operation_has_one_row_and_every_row_one_place() -> None:
    operations = [route.operation for route in ROUTES]
    places = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in ROUTES]
    assert len(set(operations)) == len(operations)
    assert len(set(places)) == len(places)
    assert {name for names in _OPERATIONS.values() for name in names.split()} <= set(operations)


def test_every_operation_is_where_the_client_has_it() -> None:
    for controller, names in _OPERATIONS.items():
        known = {name.replace("_", "") for name in dir(getattr(SDK, f"{controller}Api"))}
        there = {route.operation for route in ROUTES if route.controller == controller}
        assert there == set(names.split())
        assert {name.lower() for name in there} <= known


def test_a_fixed_segment_goes_before_a_parameter() -> None:
    tree = Node()
    for route in ROUTES:
        tree.plant(route.path.split("/")[1:], route)
    for route in ROUTES:
        node = tree.find(re.sub(r"{\w+}", str(uuid4()), route.path).split("/")[1:])
        assert node is not None
        assert node.routes[route.method] is route


def test_handlers_take_exactly_what_their_row_hands_them() -> None:
    for route in ROUTES:
        expected = {"services", *(to_snake(name) for name in re.findall(r"{(\w+)}", route.path))}
        expected |= {name for name in ("query", "body") if getattr(route, name) is not None}
        expected |= {"emit"} if route.lines is not None else set()
        expected |= {"origin"} if route.wants_origin else set()
        expected |= {"once"} if route.wants_once else set()
        for handler in filter(None, (route.handler, route.head)):
            assert set(inspect.signature(handler).parameters) == expected, route.operation


def test_everything_that_sends_takes_an_idempotency_key() -> None:
    taking = {route.operation for route in ROUTES if route.wants_once}
    assert taking == {
        "sendEmail", "sendEmailAndConfirm", "sendEmailSourceOptional", "sendEmailSimple", "sendEmailQuery",
        "replyToEmail", "forwardEmail", "sendEmailFromConnector", "control.send_email",
    }  # fmt: skip


def test_path_parameters_are_all_known() -> None:
    named = {name for route in ROUTES for name in re.findall(r"{(\w+)}", route.path)}
    assert named == set(PATH_PARAMETERS)


def test_models_are_requests_on_the_way_in_and_answers_on_the_way_out() -> None:
    for route in ROUTES:
        for model in (route.query, route.body):
            assert model is None or model is bytes or issubclass(model, Request), route.operation
        assert _is_answer(route.answer), route.operation
        assert route.answer is type(None) or route.status != 204, route.operation
        assert route.answer is type(None) or route.lines is None, route.operation


def _is_answer(declared: Any) -> bool:
    if declared in (type(None), bytes, str, File, Page, list[str]):
        return True
    model = declared.__args__[0] if getattr(declared, "__origin__", None) is list else declared
    return issubclass(model, BaseModel) and issubclass(model, Answer)


def test_control_operations_are_on_the_socket_alone() -> None:
    assert all(route.socket_only == route.path.startswith("/control/") for route in ROUTES)
