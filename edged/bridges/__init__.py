"""What brings verdicts to PLCs and SCADA that speak no ZeroMQ. Each bridge is a process of its own, fed by the client."""
