package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// detectTimeout bounds all Config.Detectors together: a metadata server that does not
// answer may not hold up a start.
const detectTimeout = 2 * time.Second

// detect asks the detectors side by side and returns what those found that answered in
// time, in the order of the list. Whoever fails, panics or is late is a note.
func (t *Tracing) detect(ctx context.Context, detectors []resource.Detector) []attribute.KeyValue {
	if len(detectors) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	type found struct {
		res *resource.Resource
		err error
	}
	answers := make([]chan found, len(detectors))
	for i, d := range detectors {
		answers[i] = make(chan found, 1) // nobody waits for a late one
		go func() {
			var f found
			defer func() {
				if v := recover(); v != nil {
					f.err = fmt.Errorf("panic: %v", v)
				}
				answers[i] <- f
			}()
			f.res, f.err = d.Detect(ctx)
		}()
	}
	var kvs []attribute.KeyValue
	for i := range detectors {
		var f found
		select {
		case f = <-answers[i]:
		case <-ctx.Done():
			select {
			case f = <-answers[i]: // it was in time, others were not
			default:
				f.err = fmt.Errorf("no answer within %v", detectTimeout)
			}
		}
		if f.err != nil {
			t.note(fmt.Sprintf("Config.Detectors[%d] (%T): %.200v", i, detectors[i], f.err))
		}
		if f.res != nil { // some is better than none
			kvs = append(kvs, f.res.Attributes()...)
		}
	}
	return kvs
}

// note logs what a developer should know, and keeps it for the debug page.
func (t *Tracing) note(text string) {
	t.log(slog.LevelWarn, "meshtrace: "+text)
	t.notes = append(t.notes, text)
}
