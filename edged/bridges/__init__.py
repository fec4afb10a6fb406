"""What brings verdicts to PLCs and SCADA that speak no ZeroMQ: each bridge is a process, fed by the client."""
