package exporter

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slack is added to every limit that is measured on real sockets: the machine may do
// other things, and a wait for a ping or a lost wake-up takes longer. Everything that can
// be has its exact limits in virtual time, in faults_test.go and flow_test.go.
const slack = 10 * time.Second
