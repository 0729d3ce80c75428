package validate

import kustypes "sigs.k8s.io/kustomize/api/types"

// kustomization is kustomize's own type.
type kustomization = kustypes.Kustomization

// collectorConfig is the frame of an OpenTelemetry Collector's configuration, and of
// Jaeger 2's. What is in components is for the real program to check.
type collectorConfig struct {
	Receivers  map[string]any `json:"receivers"`
	Processors map[string]any `json:"processors"`
	Exporters  map[string]any `json:"exporters"`
	Extensions map[string]any `json:"extensions"`
	Service    struct {
		Extensions []string `json:"extensions"`
		Telemetry  struct {
			Metrics struct {
				Level string `json:"level"`
			} `json:"metrics"`
		} `json:"telemetry"`
		Pipelines map[string]struct {
			Receivers  []string `json:"receivers"`
			Processors []string `json:"processors"`
			Exporters  []string `json:"exporters"`
		} `json:"pipelines"`
	} `json:"service"`
}

// jaegerStorage and jaegerQuery have the fields of Jaeger 2's extensions that
// jaeger/elasticsearch.yaml uses.
type jaegerStorage struct {
	Backends map[string]struct {
		Elasticsearch struct {
			ServerURLs []string `json:"server_urls"`
			Indices    struct {
				IndexPrefix string             `json:"index_prefix"`
				Spans       jaegerIndexOptions `json:"spans"`
				Services    jaegerIndexOptions `json:"services"`
			} `json:"indices"`
		} `json:"elasticsearch"`
	} `json:"backends"`
}

type jaegerIndexOptions struct {
	RolloverFrequency string `json:"rollover_frequency"`
	Shards            int64  `json:"shards"`
	Replicas          *int64 `json:"replicas"`
}

type jaegerQuery struct {
	Storage struct {
		Traces string `json:"traces"`
	} `json:"storage"`
	HTTP struct {
		Endpoint string `json:"endpoint"`
	} `json:"http"`
}

// tempoConfig has the fields of Tempo 2 that tempo/tempo.yaml uses.
type tempoConfig struct {
	Server struct {
		HTTPListenPort int32 `json:"http_listen_port"`
	} `json:"server"`
	Distributor struct {
		Receivers struct {
			OTLP struct {
				Protocols struct {
					GRPC struct {
						Endpoint string `json:"endpoint"`
					} `json:"grpc"`
				} `json:"protocols"`
			} `json:"otlp"`
		} `json:"receivers"`
	} `json:"distributor"`
	Storage struct {
		Trace struct {
			Backend string `json:"backend"`
			WAL     struct {
				Path string `json:"path"`
			} `json:"wal"`
			Local struct {
				Path string `json:"path"`
			} `json:"local"`
		} `json:"trace"`
	} `json:"storage"`
	Compactor struct {
		Compaction struct {
			BlockRetention string `json:"block_retention"`
		} `json:"compaction"`
	} `json:"compactor"`
	UsageReport struct {
		ReportingEnabled bool `json:"reporting_enabled"`
	} `json:"usage_report"`
}

// lokiConfig has the fields of Loki 3 that tempo/loki.yaml uses.
type lokiConfig struct {
	AuthEnabled bool `json:"auth_enabled"`
	Server      struct {
		HTTPListenPort int32 `json:"http_listen_port"`
	} `json:"server"`
	Common struct {
		PathPrefix string `json:"path_prefix"`
		Storage    struct {
			Filesystem struct {
				ChunksDirectory string `json:"chunks_directory"`
				RulesDirectory  string `json:"rules_directory"`
			} `json:"filesystem"`
		} `json:"storage"`
		ReplicationFactor int `json:"replication_factor"`
		Ring              struct {
			KVStore struct {
				Store string `json:"store"`
			} `json:"kvstore"`
		} `json:"ring"`
	} `json:"common"`
	SchemaConfig struct {
		Configs []struct {
			From        string `json:"from"`
			Store       string `json:"store"`
			ObjectStore string `json:"object_store"`
			Schema      string `json:"schema"`
			Index       struct {
				Prefix string `json:"prefix"`
				Period string `json:"period"`
			} `json:"index"`
		} `json:"configs"`
	} `json:"schema_config"`
	Analytics struct {
		ReportingEnabled bool `json:"reporting_enabled"`
	} `json:"analytics"`
}

// datasources has the fields of Grafana's provisioning that tempo/datasources.yaml
// uses.
type datasources struct {
	APIVersion  int `json:"apiVersion"`
	Datasources []struct {
		Name      string `json:"name"`
		UID       string `json:"uid"`
		Type      string `json:"type"`
		Access    string `json:"access"`
		URL       string `json:"url"`
		IsDefault bool   `json:"isDefault"`
		Editable  bool   `json:"editable"`
		JSONData  struct {
			TracesToLogsV2 *struct {
				DatasourceUID      string `json:"datasourceUid"`
				SpanStartTimeShift string `json:"spanStartTimeShift"`
				SpanEndTimeShift   string `json:"spanEndTimeShift"`
				Tags               []struct {
					Key   string `json:"key"`
					Value string `json:"value"`
				} `json:"tags"`
				CustomQuery bool   `json:"customQuery"`
				Query       string `json:"query"`
			} `json:"tracesToLogsV2"`
			DerivedFields []struct {
				Name            string `json:"name"`
				MatcherRegex    string `json:"matcherRegex"`
				DatasourceUID   string `json:"datasourceUid"`
				URL             string `json:"url"`
				URLDisplayLabel string `json:"urlDisplayLabel"`
			} `json:"derivedFields"`
		} `json:"jsonData"`
	} `json:"datasources"`
}
