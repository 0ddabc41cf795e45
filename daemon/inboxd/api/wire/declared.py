"""The control socket's models of connectors declared in files."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from inboxd.api.wire.shapes import Answer, Request, Sparse
from inboxd.declared import Action, Change, Difference, Mistake, Plan
from inboxd.survey import FolderSize


class PlanQuery(Request):
    """`survey`: servers are asked what would be fetched."""

    prune: bool = False
    survey: bool = True


class ApplyQuery(Request):
    """`prune`: connectors whose files are gone are deleted."""

    prune: bool = False


class MistakeDto(Answer):
    file: str
    message: str

    @classmethod
    def of(cls, mistake: Mistake) -> Self:
        """The wire form of why a file is passed over."""
        return cls(file=mistake.file, message=mistake.message)


class DifferenceDto(Answer):
    """A key of the file; of passwords only that there is one."""

    key: str
    old: str | None
    new: str | None

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """The wire form of a difference."""
        return cls(key=difference.key, old=difference.old, new=difference.new)


class ChangeDto(Answer):
    """What is, or was, done about one connector; `gone`: nothing declares it any more."""

    action: Action
    file: str | None
    name: str | None
    connector_id: UUID | None
    gone: bool
    differences: list[DifferenceDto]

    @classmethod
    def of(cls, change: Change) -> Self:
        """The wire form of a change."""
        connector = change.whole.connector
        return cls(
            action=change.action,
            file=connector.declared,
            name=connector.name,
            connector_id=change.connector_id,
            gone=change.wanted is None,
            differences=[DifferenceDto.of(difference) for difference in change.differences],
        )


class FolderDto(Sparse):
    """A folder that would be read; `error`: why it cannot be looked into."""

    name: str
    messages: int
    size_bytes: int
    estimated: bool
    error: str | None = None

    @classmethod
    def of(cls, folder: FolderSize) -> Self:
        """The wire form of a folder."""
        return cls(
            name=folder.name,
            messages=folder.messages,
            size_bytes=folder.size_bytes,
            estimated=folder.estimated,
            error=folder.error,
        )


class LoadDto(Sparse):
    """What reading all of a connector's folders comes to; `error`: why its server could not be asked."""

    messages: int
    size_bytes: int
    seconds: float
    error: str | None = None


class PlanLine(Sparse):
    """A line of a plan: a mistake, or a change, which the folders that it reads and their sum follow."""

    mistake: MistakeDto | None = None
    change: ChangeDto | None = None
    folder: FolderDto | None = None
    load: LoadDto | None = None


class DeclaredDto(Answer):
    """What was done; `folder` is null while there is none."""

    folder: str | None
    changes: list[ChangeDto]
    mistakes: list[MistakeDto]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The wire form of a plan that was carried out."""
        return cls(
            folder=str(plan.folder) if plan.folder is not None else None,
            changes=[ChangeDto.of(change) for change in plan.changes],
            mistakes=[MistakeDto.of(mistake) for mistake in plan.mistakes],
        )
