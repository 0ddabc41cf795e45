"""The schema's revisions, oldest first by `down_revision`. A shipped revision is never changed, only followed."""
