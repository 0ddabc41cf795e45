"""The route table: what it promises is what the handlers take."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from inboxd.api.answers import File
from inboxd.api.intake import PATH_PARAMETERS
from inboxd.api.routes import ROUTES
from inboxd.api.wire.shapes import Answer, Request

_OPERATIONS = """
    createConnectorWithOptions createConnector getConnectors getConnector updateConnector deleteConnector
    deleteAllConnector getConnectorByName getConnectorByInboxId getConnectorByEmailAddress
    getConnectorProviderSettings createConnectorImapConnection getConnectorImapConnection
    updateConnectorImapConnection deleteConnectorImapConnection testConnectorImapConnection
    testConnectorImapConnectionOptions createConnectorSmtpConnection getConnectorSmtpConnection
    updateConnectorSmtpConnection deleteConnectorSmtpConnection testConnectorSmtpConnection
    testConnectorSmtpConnectionOptions createConnectorSyncSettings getConnectorSyncSettings
    deleteConnectorSyncSettings syncConnector sendEmailFromConnector getConnectorEvents getAllConnectorEvents
    getConnectorEvent getInboxEmailsPaginated getEmails getEmail getEmailsPaginated getRawEmailContents
    getRawEmailJson deleteEmail waitForLatestEmail getEmailsOffsetPaginated getOrganizationEmailsPaginated searchEmails
    getEmailSummary getEmailAttachments getAttachmentMetaData downloadAttachment downloadAttachmentBase64 markAsRead
    markAllAsRead setEmailFavourited getLatestEmail getLatestEmailInInbox1 getEmailCount getUnreadEmailCount
    deleteAllEmails getEmailPreviewURLs getInboxEmailCount deleteAllInboxEmails emptyInbox getLatestEmailInInbox
    uploadAttachment uploadAttachmentBytes getAttachments getAttachment getAttachmentInfo downloadAttachmentAsBytes
    downloadAttachmentAsBase64Encoded deleteAttachment deleteAllAttachments
"""


def test_every_operation_has_one_row_and_every_row_one_place() -> None:
    operations = [route.operation for route in ROUTES]
    places = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in ROUTES]
    assert len(set(operations)) == len(operations)
    assert len(set(places)) == len(places)
    assert {name for name in operations if not name.startswith("control.")} >= set(_OPERATIONS.split())


def test_handlers_take_exactly_what_their_row_hands_them() -> None:
    for route in ROUTES:
        expected = {"services", *(to_snake(name) for name in re.findall(r"{(\w+)}", route.path))}
        expected |= {name for name in ("query", "body") if getattr(route, name) is not None}
        expected |= {"emit"} if route.lines is not None else set()
        expected |= {"origin"} if route.wants_origin else set()
        for handler in filter(None, (route.handler, route.head)):
            assert set(inspect.signature(handler).parameters) == expected, route.operation


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
    if declared in (type(None), bytes, str, File, list[str]):
        return True
    model = declared.__args__[0] if getattr(declared, "__origin__", None) is list else declared
    return issubclass(model, BaseModel) and issubclass(model, Answer)


def test_control_operations_are_on_the_socket_alone() -> None:
    assert all(route.socket_only == route.path.startswith("/control/") for route in ROUTES)
