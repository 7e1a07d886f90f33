"""What docs/how-to/recipes.md says of other libraries."""

from __future__ import annotations

from celery import Celery
from kombu.serialization import register, unregister

from sealwax.records import UNBOUND, Records


def test_celery_repeats_arguments_in_headers_which_no_serializer_seals(sealwax_records: Records) -> None:
    field = sealwax_records.field("celery", row=UNBOUND)
    register("sealed", lambda data: field.seal_text(list(data), row=UNBOUND), None, "application/x-sealed", "utf-8")  # type: ignore[no-untyped-call]
    try:
        by_serializer = Celery("one", broker="memory://", task_serializer="sealed", set_as_current=False)
        with by_serializer.connection_for_read() as connection:
            channel = connection.default_channel
            by_serializer.send_task("charge", ["4111 1234"])
            message = channel.basic_get("celery", no_ack=True)
        assert "4111" not in message.body.decode()
        assert "4111 1234" in message.headers["argsrepr"]
    finally:
        unregister("sealed")  # type: ignore[no-untyped-call]


def test_a_sealed_argument_stands_nowhere_in_the_clear(sealwax_records: Records) -> None:
    card = sealwax_records.field("tasks.card", row=str)
    app = Celery("two", broker="memory://", set_as_current=False)
    with app.connection_for_read() as connection:
        app.send_task("charge", [card.seal_text("4111 1234", row="id")], task_id="id")
        message = connection.default_channel.basic_get("celery", no_ack=True)
    assert "swr1." in message.headers["argsrepr"]
    assert "4111" not in repr((message.headers, message.properties, message.body))
