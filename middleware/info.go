package middleware

import (
	"slices"

	"github.com/meshtrace/meshtrace/requestid"
)

// debugInfo tells the debug page what is in force and what happened so far.
func (t *Tracing) debugInfo() debugInfo {
	info := debugInfo{
		Service:    t.service,
		Role:       t.role.String(),
		Settings:   slices.Clone(t.settings),
		Notes:      slices.Clone(t.notes),
		Sampling:   t.sampler.Counts(),
		RequestIDs: make(map[string]uint64, requestid.Cleared+1),
	}
	if t.stranger.Load() {
		info.Notes = append(info.Notes, strangerNote)
	}
	info.Notes = append(info.Notes, t.containedNotes()...)
	for _, e := range t.exporters {
		info.Settings = append(info.Settings, e.Settings()...)
		name := "Config.Processors"
		if e == t.exporter {
			name = "Config.Export"
		}
		info.Exporters = append(info.Exporters, debugExporter{Name: name, Stats: e.Stats()})
	}
	for i := range requestid.Cleared + 1 {
		info.RequestIDs[i.String()] = t.ids.Load(int(i))
	}
	info.Running, info.Underway = t.running.Oldest(debugRunning)
	return info
}
