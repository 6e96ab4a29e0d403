"""What Prometheus is told at /metrics: counters of the web workers, and figures that are asked for at each scrape.

Imports storage and release. Used by middleware, versions, the services and the server.
"""
