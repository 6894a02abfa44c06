// For those who build their monitoring from mixins: the same files, nothing of its own.
// Paths are relative to this file, so keep deploy/prometheus and deploy/grafana side by side.
{
  _config+:: {
    // Where your people read docs/runbooks.
    runbookBase: 'https://example.org/webhook-sidecar',
  },

  local replaced(text) = std.strReplace(text, 'https://example.org/webhook-sidecar', $._config.runbookBase),

  grafanaDashboards+:: {
    'webhook-sidecar.json': (import '../grafana/webhook-sidecar.json'),
  },
  prometheusAlerts+:: std.parseYaml(replaced(importstr 'alerts.yaml')),
  prometheusRules+:: std.parseYaml(importstr 'rules.yaml'),
}
