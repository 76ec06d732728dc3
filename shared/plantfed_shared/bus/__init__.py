"""The message bus: one port, an in-memory implementation and one over MQTT."""
