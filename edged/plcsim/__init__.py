"""The conformance kit: `edged plc-sim` plays a PLC against a daemon, and a daemon against an integrator's client."""
