"""What brings verdicts to PLCs and SCADA without ZeroMQ. Each bridge is a process of its own, fed by the client."""
