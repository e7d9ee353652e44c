-- A log as revision 0005 writes it. Never edited: every later Pointsman must open it.
PRAGMA foreign_keys=OFF;
BEGIN;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE conversation (
	id VARCHAR(32) NOT NULL,
	title TEXT NOT NULL,
	domain TEXT NOT NULL,
	system_prompt TEXT NOT NULL,
	incognito BOOLEAN NOT NULL,
	active_leaf_id VARCHAR(32),
	created_at VARCHAR(32) NOT NULL,
	updated_at VARCHAR(32) NOT NULL,
	CONSTRAINT pk_conversation PRIMARY KEY (id),
	CONSTRAINT fk_conversation_active_leaf_id FOREIGN KEY(active_leaf_id) REFERENCES turn (id) ON DELETE SET NULL
);
CREATE TABLE turn (
	id VARCHAR(32) NOT NULL,
	conversation_id VARCHAR(32) NOT NULL,
	parent_turn_id VARCHAR(32),
	role VARCHAR(16) NOT NULL,
	content TEXT NOT NULL,
	tool_name TEXT NOT NULL,
	created_at VARCHAR(32) NOT NULL,
	CONSTRAINT pk_turn PRIMARY KEY (id),
	CONSTRAINT fk_turn_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversation (id),
	CONSTRAINT fk_turn_parent_turn_id FOREIGN KEY(parent_turn_id) REFERENCES turn (id)
);
CREATE TABLE config_snapshot (
	sha256 VARCHAR(64) NOT NULL,
	canonical_json TEXT NOT NULL,
	created_at VARCHAR(32) NOT NULL,
	CONSTRAINT pk_config_snapshot PRIMARY KEY (sha256)
);
CREATE TABLE inference (
	id VARCHAR(32) NOT NULL,
	turn_id VARCHAR(32) NOT NULL,
	status VARCHAR(16) NOT NULL,
	config_hash VARCHAR(64) NOT NULL,
	model TEXT NOT NULL,
	engine TEXT NOT NULL,
	mode TEXT NOT NULL,
	domain TEXT NOT NULL,
	decision JSON NOT NULL,
	seed BIGINT,
	prompt_tokens INTEGER NOT NULL,
	cached_tokens INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL,
	context_tokens INTEGER NOT NULL,
	dropped_turns INTEGER NOT NULL,
	ttft_s DOUBLE NOT NULL,
	total_s DOUBLE NOT NULL,
	load_s DOUBLE NOT NULL,
	finish VARCHAR(16) NOT NULL,
	truncated BOOLEAN NOT NULL,
	tainted BOOLEAN NOT NULL,
	error TEXT NOT NULL,
	writer TEXT NOT NULL,
	created_at VARCHAR(32) NOT NULL,
	updated_at VARCHAR(32) NOT NULL,
	finished_at VARCHAR(32),
	CONSTRAINT pk_inference PRIMARY KEY (id),
	CONSTRAINT uq_inference_turn_id UNIQUE (turn_id),
	CONSTRAINT fk_inference_turn_id FOREIGN KEY(turn_id) REFERENCES turn (id),
	CONSTRAINT fk_inference_config_hash FOREIGN KEY(config_hash) REFERENCES config_snapshot (sha256)
);
CREATE TABLE inference_payload (
	inference_id VARCHAR(32) NOT NULL,
	text TEXT NOT NULL,
	thinking TEXT NOT NULL,
	tool_calls JSON NOT NULL, trace JSON DEFAULT '[]' NOT NULL,
	CONSTRAINT pk_inference_payload PRIMARY KEY (inference_id),
	CONSTRAINT fk_inference_payload_inference_id FOREIGN KEY(inference_id) REFERENCES inference (id)
);
CREATE TABLE feedback (
	id VARCHAR(32) NOT NULL,
	inference_id VARCHAR(32) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	value DOUBLE,
	text TEXT NOT NULL,
	source VARCHAR(16) NOT NULL,
	supersedes_id VARCHAR(32),
	withdrawn BOOLEAN NOT NULL,
	dedupe_key TEXT,
	created_at VARCHAR(32) NOT NULL,
	CONSTRAINT pk_feedback PRIMARY KEY (id),
	CONSTRAINT uq_feedback_dedupe_key UNIQUE (dedupe_key),
	CONSTRAINT fk_feedback_inference_id FOREIGN KEY(inference_id) REFERENCES inference (id),
	CONSTRAINT fk_feedback_supersedes_id FOREIGN KEY(supersedes_id) REFERENCES feedback (id)
);
CREATE TABLE preference (
	feedback_id VARCHAR(32) NOT NULL,
	chosen_inference_id VARCHAR(32) NOT NULL,
	rejected_inference_id VARCHAR(32) NOT NULL,
	blind BOOLEAN NOT NULL,
	chosen_left BOOLEAN,
	CONSTRAINT pk_preference PRIMARY KEY (feedback_id),
	CONSTRAINT fk_preference_feedback_id FOREIGN KEY(feedback_id) REFERENCES feedback (id),
	CONSTRAINT fk_preference_chosen_inference_id FOREIGN KEY(chosen_inference_id) REFERENCES inference (id),
	CONSTRAINT fk_preference_rejected_inference_id FOREIGN KEY(rejected_inference_id) REFERENCES inference (id)
);
CREATE TABLE search_document (
	id INTEGER NOT NULL,
	conversation_id VARCHAR(32) NOT NULL,
	turn_id VARCHAR(32),
	feedback_id VARCHAR(32),
	kind VARCHAR(16) NOT NULL,
	body TEXT NOT NULL,
	created_at VARCHAR(32) NOT NULL,
	CONSTRAINT pk_search_document PRIMARY KEY (id),
	CONSTRAINT fk_search_document_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversation (id),
	CONSTRAINT fk_search_document_turn_id FOREIGN KEY(turn_id) REFERENCES turn (id),
	CONSTRAINT fk_search_document_feedback_id FOREIGN KEY(feedback_id) REFERENCES feedback (id)
);
CREATE VIRTUAL TABLE search_index USING fts5(body, content='search_document', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3');
CREATE TABLE exemplar (
	id VARCHAR(32) NOT NULL, 
	inference_id VARCHAR(32), 
	text TEXT NOT NULL, 
	domain TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	source VARCHAR(16) NOT NULL, 
	withdrawn BOOLEAN NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_exemplar PRIMARY KEY (id), 
	CONSTRAINT fk_exemplar_inference_id FOREIGN KEY(inference_id) REFERENCES inference (id)
);
CREATE TABLE evaluation (
	id VARCHAR(32) NOT NULL, 
	model TEXT NOT NULL, 
	base TEXT NOT NULL, 
	domain TEXT NOT NULL, 
	pairs INTEGER NOT NULL, 
	gain DOUBLE NOT NULL, 
	lower DOUBLE NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_evaluation PRIMARY KEY (id)
);
CREATE TABLE document (
	id VARCHAR(32) NOT NULL, 
	place VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	name TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	bytes BIGINT NOT NULL, 
	lines INTEGER NOT NULL, 
	cut VARCHAR(32) NOT NULL, 
	version VARCHAR(32) NOT NULL, 
	added_at VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32), 
	CONSTRAINT pk_document PRIMARY KEY (id), 
	CONSTRAINT uq_document_place UNIQUE (place), 
	CONSTRAINT fk_document_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversation (id)
);
CREATE TABLE chunk (
	id INTEGER NOT NULL, 
	document_id VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	first_line INTEGER NOT NULL, 
	last_line INTEGER NOT NULL, 
	page INTEGER NOT NULL, 
	heading TEXT NOT NULL, 
	body TEXT NOT NULL, 
	embedding BLOB, 
	encoder VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_chunk PRIMARY KEY (id), 
	CONSTRAINT fk_chunk_document_id FOREIGN KEY(document_id) REFERENCES document (id)
);
CREATE VIRTUAL TABLE chunk_index USING fts5(heading, body, content='chunk', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
CREATE TABLE model_version (
	id VARCHAR(32) NOT NULL, 
	name TEXT NOT NULL, 
	domain TEXT NOT NULL, 
	model TEXT NOT NULL, 
	base TEXT NOT NULL, 
	stage VARCHAR(16) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	artefact JSON NOT NULL, 
	lineage JSON NOT NULL, 
	evidence JSON NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_model_version PRIMARY KEY (id), 
	CONSTRAINT uq_model_version_sha256 UNIQUE (sha256)
);
CREATE TABLE alias (
	domain TEXT NOT NULL, 
	name VARCHAR(16) NOT NULL, 
	version_id VARCHAR(32) NOT NULL, 
	updated_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_alias PRIMARY KEY (domain, name), 
	CONSTRAINT fk_alias_version_id FOREIGN KEY(version_id) REFERENCES model_version (id)
);
CREATE TABLE gate_decision (
	id VARCHAR(32) NOT NULL, 
	version_id VARCHAR(32) NOT NULL, 
	champion_id VARCHAR(32), 
	rules VARCHAR(16) NOT NULL, 
	gates JSON NOT NULL, 
	passed BOOLEAN NOT NULL, 
	override TEXT NOT NULL, 
	who TEXT NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_gate_decision PRIMARY KEY (id), 
	CONSTRAINT fk_gate_decision_version_id FOREIGN KEY(version_id) REFERENCES model_version (id), 
	CONSTRAINT fk_gate_decision_champion_id FOREIGN KEY(champion_id) REFERENCES model_version (id)
);
CREATE TABLE stage_event (
	id VARCHAR(32) NOT NULL, 
	version_id VARCHAR(32) NOT NULL, 
	domain TEXT NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	from_stage VARCHAR(16) NOT NULL, 
	to_stage VARCHAR(16) NOT NULL, 
	who TEXT NOT NULL, 
	why TEXT NOT NULL, 
	gate_decision_id VARCHAR(32), 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_stage_event PRIMARY KEY (id), 
	CONSTRAINT fk_stage_event_version_id FOREIGN KEY(version_id) REFERENCES model_version (id), 
	CONSTRAINT fk_stage_event_gate_decision_id FOREIGN KEY(gate_decision_id) REFERENCES gate_decision (id)
);
CREATE TABLE experiment (
	id VARCHAR(32) NOT NULL, 
	domain TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	arms JSON NOT NULL, 
	salt VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	who TEXT NOT NULL, 
	why TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	version_id VARCHAR(32), 
	baseline DOUBLE NOT NULL, 
	threshold DOUBLE NOT NULL, 
	started_at VARCHAR(32) NOT NULL, 
	ended_at VARCHAR(32), 
	CONSTRAINT pk_experiment PRIMARY KEY (id), 
	CONSTRAINT fk_experiment_version_id FOREIGN KEY(version_id) REFERENCES model_version (id)
);
CREATE TABLE assignment (
	experiment_id VARCHAR(32) NOT NULL, 
	conversation_id VARCHAR(32) NOT NULL, 
	arm TEXT NOT NULL, 
	propensity DOUBLE NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_assignment PRIMARY KEY (experiment_id, conversation_id), 
	CONSTRAINT fk_assignment_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiment (id), 
	CONSTRAINT fk_assignment_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversation (id) ON DELETE CASCADE
);
CREATE TABLE notice (
	id VARCHAR(32) NOT NULL, 
	domain TEXT NOT NULL, 
	text TEXT NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	shown_at VARCHAR(32), 
	CONSTRAINT pk_notice PRIMARY KEY (id)
);
CREATE TABLE regression (
	feedback_id VARCHAR(32) NOT NULL, 
	domain TEXT NOT NULL, 
	CONSTRAINT pk_regression PRIMARY KEY (feedback_id), 
	CONSTRAINT fk_regression_feedback_id FOREIGN KEY(feedback_id) REFERENCES feedback (id) ON DELETE CASCADE
);
CREATE INDEX ix_conversation_active_leaf_id ON conversation (active_leaf_id);
CREATE INDEX ix_conversation_updated_at ON conversation (updated_at);
CREATE INDEX ix_turn_conversation_id ON turn (conversation_id);
CREATE INDEX ix_turn_parent_turn_id ON turn (parent_turn_id);
CREATE INDEX ix_inference_config_hash ON inference (config_hash);
CREATE INDEX ix_inference_unfinished ON inference (status) WHERE status IN ('pending', 'streaming');
CREATE INDEX ix_feedback_inference_id ON feedback (inference_id);
CREATE INDEX ix_feedback_supersedes_id ON feedback (supersedes_id);
CREATE INDEX ix_preference_chosen_inference_id ON preference (chosen_inference_id);
CREATE INDEX ix_preference_rejected_inference_id ON preference (rejected_inference_id);
CREATE INDEX ix_search_document_conversation_id ON search_document (conversation_id);
CREATE INDEX ix_search_document_turn_id ON search_document (turn_id);
CREATE INDEX ix_search_document_feedback_id ON search_document (feedback_id);
CREATE INDEX ix_exemplar_inference_id ON exemplar (inference_id);
CREATE INDEX ix_evaluation_model ON evaluation (model);
CREATE INDEX ix_document_conversation_id ON document (conversation_id);
CREATE INDEX ix_chunk_document_id ON chunk (document_id);
CREATE INDEX ix_model_version_domain ON model_version (domain);
CREATE INDEX ix_alias_version_id ON alias (version_id);
CREATE INDEX ix_gate_decision_version_id ON gate_decision (version_id);
CREATE INDEX ix_stage_event_version_id ON stage_event (version_id);
CREATE INDEX ix_stage_event_domain ON stage_event (domain);
CREATE INDEX ix_experiment_domain ON experiment (domain);
CREATE INDEX ix_assignment_conversation_id ON assignment (conversation_id);
CREATE INDEX ix_regression_domain ON regression (domain);
CREATE UNIQUE INDEX ix_model_version_champion ON model_version (domain) WHERE stage = 'champion';
CREATE UNIQUE INDEX ix_model_version_canary ON model_version (domain) WHERE stage = 'canary';
CREATE UNIQUE INDEX ix_experiment_running ON experiment (domain) WHERE state = 'running';
INSERT INTO alembic_version VALUES('0005');
INSERT INTO conversation VALUES('01a1f8ff0363752990cecdc1caa40137','Wie heißt das?','trains','Be brief.',0,'01a1f8ff03e777dcabfb077db17a2a22','2026-11-20T12:47:04.547750+00:00','2026-11-20T12:47:04.679641+00:00');
INSERT INTO conversation VALUES('01a1f8ff03ea728484ddc411975928c5','secret','','',1,'01a1f8ff03eb75ab9096033b0325c18f','2026-11-20T12:47:04.682781+00:00','2026-11-20T12:47:04.686610+00:00');
INSERT INTO turn VALUES('01a1f8ff03667443af23490b794e184c','01a1f8ff0363752990cecdc1caa40137',NULL,'user','Wie heißt das?
In one word.','','2026-11-20T12:47:04.550022+00:00');
INSERT INTO turn VALUES('01a1f8ff0367760facbbc4e924ff779c','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03667443af23490b794e184c','assistant','','','2026-11-20T12:47:04.551101+00:00');
INSERT INTO turn VALUES('01a1f8ff03997f58a0edba9b990ee5cc','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03667443af23490b794e184c','assistant','','','2026-11-20T12:47:04.601392+00:00');
INSERT INTO turn VALUES('01a1f8ff03cb70c5b121f15d3d76f62e','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03997f58a0edba9b990ee5cc','user','And then?','','2026-11-20T12:47:04.651573+00:00');
INSERT INTO turn VALUES('01a1f8ff03cc719d9c0000a157f9d783','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03cb70c5b121f15d3d76f62e','assistant','','','2026-11-20T12:47:04.652187+00:00');
INSERT INTO turn VALUES('01a1f8ff03e674508d0a81c2e32c5273','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03997f58a0edba9b990ee5cc','user','And before?','','2026-11-20T12:47:04.678938+00:00');
INSERT INTO turn VALUES('01a1f8ff03e777dcabfb077db17a2a22','01a1f8ff0363752990cecdc1caa40137','01a1f8ff03e674508d0a81c2e32c5273','assistant','','','2026-11-20T12:47:04.679641+00:00');
INSERT INTO turn VALUES('01a1f8ff03eb75ab9096033a0c1e375d','01a1f8ff03ea728484ddc411975928c5',NULL,'user','secret','','2026-11-20T12:47:04.683385+00:00');
INSERT INTO turn VALUES('01a1f8ff03eb75ab9096033b0325c18f','01a1f8ff03ea728484ddc411975928c5','01a1f8ff03eb75ab9096033a0c1e375d','assistant','','','2026-11-20T12:47:04.683630+00:00');
INSERT INTO config_snapshot VALUES('15252becd2e2db680e62a3727fc53ce700142355ff225d3ad2791478f87887ec','{"system":"Be brief.","temperature":0.5}','2026-11-20T12:47:04.551101+00:00');
INSERT INTO config_snapshot VALUES('ac777044aad0efa3f69c1f96e101c7a15b9c1fbf67be5c726e9e333b73023497','{"system":"","temperature":0.7}','2026-11-20T12:47:04.601392+00:00');
INSERT INTO config_snapshot VALUES('91fb847e8fa7c4f8b14a84bf0943239f564c25b3ca6c77874e0c0853b4613541','{"system":""}','2026-11-20T12:47:04.679641+00:00');
INSERT INTO inference VALUES('01a1f8ff0367760facbbc4e93c4072ed','01a1f8ff0367760facbbc4e924ff779c','complete','15252becd2e2db680e62a3727fc53ce700142355ff225d3ad2791478f87887ec','llamacpp/smollm2-135m','llamacpp','standard','trains','{"confidence":0.75,"stages":[{"name":"rules"}]}',7,30,10,5,4096,0,0.5,1.5,0.25,'stop',0,0,'','host/machine	boot	pid:[1]	1	2','2026-11-20T12:47:04.551101+00:00','2026-11-20T12:47:04.559466+00:00','2026-11-20T12:47:04.559466+00:00');
INSERT INTO inference VALUES('01a1f8ff03997f58a0edba9be4cc3ab2','01a1f8ff03997f58a0edba9b990ee5cc','complete','ac777044aad0efa3f69c1f96e101c7a15b9c1fbf67be5c726e9e333b73023497','echo/echo','echo','standard','','{}',NULL,0,0,0,0,0,0.0,0.0,0.0,'stop',0,0,'','host/machine	boot	pid:[1]	1	2','2026-11-20T12:47:04.601392+00:00','2026-11-20T12:47:04.606833+00:00','2026-11-20T12:47:04.606833+00:00');
INSERT INTO inference VALUES('01a1f8ff03cc719d9c0000a1c8a27dac','01a1f8ff03cc719d9c0000a157f9d783','interrupted','ac777044aad0efa3f69c1f96e101c7a15b9c1fbf67be5c726e9e333b73023497','echo/echo','echo','standard','','{}',NULL,0,0,0,0,0,0.0,0.0,0.0,'interrupted',0,0,'Pointsman ended before the answer did','host/machine	boot	pid:[1]	1	2','2026-11-20T12:47:04.652187+00:00','2026-11-20T16:45:01.267812+00:00','2026-11-20T16:45:01.267812+00:00');
INSERT INTO inference VALUES('01a1f8ff03e777dcabfb077e608c2646','01a1f8ff03e777dcabfb077db17a2a22','interrupted','91fb847e8fa7c4f8b14a84bf0943239f564c25b3ca6c77874e0c0853b4613541','echo/echo','echo','standard','','{}',NULL,0,0,0,0,0,0.0,0.0,0.0,'interrupted',0,0,'Pointsman ended before the answer did','host/machine	boot	pid:[1]	1	2','2026-11-20T12:47:04.679641+00:00','2026-11-20T16:45:01.267812+00:00','2026-11-20T16:45:01.267812+00:00');
INSERT INTO inference VALUES('01a1f8ff03eb75ab9096033b0e3d3d71','01a1f8ff03eb75ab9096033b0325c18f','complete','ac777044aad0efa3f69c1f96e101c7a15b9c1fbf67be5c726e9e333b73023497','echo/echo','echo','standard','','{}',NULL,0,0,0,0,0,0.0,0.0,0.0,'stop',0,0,'','host/machine	boot	pid:[1]	1	2','2026-11-20T12:47:04.683630+00:00','2026-11-20T12:47:04.686610+00:00','2026-11-20T12:47:04.686610+00:00');
INSERT INTO inference_payload VALUES('01a1f8ff0367760facbbc4e93c4072ed','A pointsmen.','hm','[{"arguments":{"up":"Weiche"},"id":"1","name":"look"}]','[{"call":{"arguments":{"up":"Weiche"},"name":"look"}}]');
INSERT INTO inference_payload VALUES('01a1f8ff03997f58a0edba9be4cc3ab2','Weichensteller.','','[]','[]');
INSERT INTO inference_payload VALUES('01a1f8ff03cc719d9c0000a1c8a27dac','Then the tr','','[]','[]');
INSERT INTO inference_payload VALUES('01a1f8ff03e777dcabfb077e608c2646','','','[]','[]');
INSERT INTO inference_payload VALUES('01a1f8ff03eb75ab9096033b0e3d3d71','told','','[]','[]');
INSERT INTO feedback VALUES('01a1f8ff037d7d309d0d19bb6ecad21b','01a1f8ff0367760facbbc4e93c4072ed','thumb',1.0,'','user',NULL,0,'w:1','2026-11-20T12:47:04.573740+00:00');
INSERT INTO feedback VALUES('01a1f8ff038271c29eed7bd76891c62b','01a1f8ff0367760facbbc4e93c4072ed','thumb',-1.0,'','user','01a1f8ff037d7d309d0d19bb6ecad21b',0,NULL,'2026-11-20T12:47:04.578113+00:00');
INSERT INTO feedback VALUES('01a1f8ff038e797bb88c1018619cdff7','01a1f8ff0367760facbbc4e93c4072ed','correction',NULL,'A pointsman.','user',NULL,0,NULL,'2026-11-20T12:47:04.590990+00:00');
INSERT INTO feedback VALUES('01a1f8ff03927e2a80f96b260241c875','01a1f8ff0367760facbbc4e93c4072ed','comment',NULL,'nearly','user',NULL,0,NULL,'2026-11-20T12:47:04.594318+00:00');
INSERT INTO feedback VALUES('01a1f8ff03957268a10013039086c6d7','01a1f8ff0367760facbbc4e93c4072ed','rating',4.0,'','user',NULL,0,NULL,'2026-11-20T12:47:04.597136+00:00');
INSERT INTO feedback VALUES('01a1f8ff03b6712880207a70889409ec','01a1f8ff03997f58a0edba9be4cc3ab2','preference',1.0,'','user',NULL,0,NULL,'2026-11-20T12:47:04.630993+00:00');
INSERT INTO preference VALUES('01a1f8ff03b6712880207a70889409ec','01a1f8ff03997f58a0edba9be4cc3ab2','01a1f8ff0367760facbbc4e93c4072ed',1,1);
INSERT INTO search_document VALUES(1,'01a1f8ff0363752990cecdc1caa40137',NULL,NULL,'title','Wie heißt das?','2026-11-20T12:47:04.547750+00:00');
INSERT INTO search_document VALUES(2,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff03667443af23490b794e184c',NULL,'question','Wie heißt das?
In one word.','2026-11-20T12:47:04.550022+00:00');
INSERT INTO search_document VALUES(3,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff0367760facbbc4e924ff779c',NULL,'answer','A pointsmen.','2026-11-20T12:47:04.559466+00:00');
INSERT INTO search_document VALUES(4,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff0367760facbbc4e924ff779c',NULL,'thinking','hm','2026-11-20T12:47:04.559466+00:00');
INSERT INTO search_document VALUES(5,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff0367760facbbc4e924ff779c','01a1f8ff038e797bb88c1018619cdff7','correction','A pointsman.','2026-11-20T12:47:04.590990+00:00');
INSERT INTO search_document VALUES(6,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff0367760facbbc4e924ff779c','01a1f8ff03927e2a80f96b260241c875','comment','nearly','2026-11-20T12:47:04.594318+00:00');
INSERT INTO search_document VALUES(7,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff03997f58a0edba9b990ee5cc',NULL,'answer','Weichensteller.','2026-11-20T12:47:04.606833+00:00');
INSERT INTO search_document VALUES(8,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff03cb70c5b121f15d3d76f62e',NULL,'question','And then?','2026-11-20T12:47:04.651573+00:00');
INSERT INTO search_document VALUES(9,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff03e674508d0a81c2e32c5273',NULL,'question','And before?','2026-11-20T12:47:04.678938+00:00');
INSERT INTO search_document VALUES(10,'01a1f8ff0363752990cecdc1caa40137','01a1f8ff03cc719d9c0000a157f9d783',NULL,'answer','Then the tr','2026-11-20T16:45:01.267812+00:00');
INSERT INTO exemplar VALUES('01a1f9d8dc5f701883b7f6a430019e2f','01a1f8ff0367760facbbc4e93c4072ed','Wie heißt das?
In one word.','trains','standard','correction',0,'2026-11-20T16:45:01.407201+00:00');
INSERT INTO evaluation VALUES('01a1f9d8dc877d459b4168da944b19ce','ollama/tuned','echo/echo','trains',120,0.125,0.0625,'2026-11-20T16:45:01.447744+00:00');
INSERT INTO evaluation VALUES('01a1fbc2076e7553b4fb6dbe0dbe4211','llamacpp/first','llamacpp/smollm2-135m','trains',48,0.29,0.11,'2026-11-21T01:39:19.534211+00:00');
INSERT INTO evaluation VALUES('01a1fbc208087423ae8f2a726b15352e','llamacpp/second','llamacpp/smollm2-135m','trains',48,0.29,0.11,'2026-11-21T01:39:19.688976+00:00');
INSERT INTO evaluation VALUES('01a1fbc208717750a228bac837b26410','llamacpp/third','llamacpp/smollm2-135m','trains',48,0.29,0.11,'2026-11-21T01:39:19.793046+00:00');
INSERT INTO document VALUES('01a1f9d8dc9c7bbeabc61bc72f6b3676','ace5e8be0323ee077eed8fdfc6cbe7e13560265e4b87168855df74da01612020','/notes/points.md','points.md','0000000000000000000000000000000000000000000000000000000000000000','markdown',42,3,'1:1000','01a1f9d8dc9c7bbeabc61bc654f83d2c','2026-11-20T16:45:01.467999+00:00',NULL);
INSERT INTO chunk VALUES(1,'01a1f9d8dc9c7bbeabc61bc72f6b3676',0,1,3,0,'Points','# Points

A pointsman sets the points.',NULL,'');
INSERT INTO model_version VALUES('01a1fbc207527499b9902251196f867b','first','trains','llamacpp/first','llamacpp/smollm2-135m','retired','b4f413e5a849afb23dd19d7d38940741cd6d5431864f23665f13b00560687e74','{"chosen":"Q4_0","files":[{"bytes":1004,"form":"Q4_0","kind":"model","name":"model-Q4_0.gguf","sha256":"85ad0ce1f0b65aaaae38a93eff3c09c205356c23dc0b1cb061913f54c5fbd8a0"}]}','{"base":"smollm2-135m","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","corrections":12,"dataset_sha256":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","exported":"","parent":"","rows":150,"run":"first-run","run_hash":"1a2b3c4d"}','{"gain":0.29,"gates":[{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91}],"lower":0.11,"pairs":48,"passed":true}','2026-11-21T01:39:19.506701+00:00');
INSERT INTO model_version VALUES('01a1fbc2080777a7822af9f5ace60050','second','trains','llamacpp/second','llamacpp/smollm2-135m','champion','0577e588a7d1374c080e1c1ae98a3dbc265076a9f3d92d23a87ad79f475fc995','{"chosen":"Q4_0","files":[{"bytes":1204,"form":"Q4_0","kind":"model","name":"model-Q4_0.gguf","sha256":"c6b7b28d0be9d5d3e4a7f2177ce45bb4b72f7edd1eab24362de1a0ff6fcece4c"}]}','{"base":"smollm2-135m","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","corrections":12,"dataset_sha256":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","exported":"","parent":"","rows":150,"run":"second-run","run_hash":"1a2b3c4d"}','{"gain":0.29,"gates":[{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91}],"lower":0.11,"pairs":48,"passed":true}','2026-11-21T01:39:19.687779+00:00');
INSERT INTO model_version VALUES('01a1fbc2086f7c1893ecd5adf6ac7f9b','third','trains','llamacpp/third','llamacpp/smollm2-135m','canary','8393ad0cc1000d062b3517967565dcc493d73652fcbe77d62420190caa7c1794','{"chosen":"Q4_0","files":[{"bytes":1004,"form":"Q4_0","kind":"model","name":"model-Q4_0.gguf","sha256":"c0a781080be77aaa1727da5c7312ae8827e9ddbeed6566a38ed0512200cf1ca9"}]}','{"base":"smollm2-135m","base_sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","corrections":12,"dataset_sha256":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","exported":"","parent":"","rows":150,"run":"third-run","run_hash":"1a2b3c4d"}','{"gain":0.29,"gates":[{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91}],"lower":0.11,"pairs":48,"passed":true}','2026-11-21T01:39:19.791754+00:00');
INSERT INTO alias VALUES('trains','champion','01a1fbc2080777a7822af9f5ace60050','2026-11-21T01:39:19.755725+00:00');
INSERT INTO alias VALUES('trains','previous','01a1fbc207527499b9902251196f867b','2026-11-21T01:39:19.755968+00:00');
INSERT INTO alias VALUES('trains','canary','01a1fbc2086f7c1893ecd5adf6ac7f9b','2026-11-21T01:39:19.962109+00:00');
INSERT INTO gate_decision VALUES('01a1fbc207c37935b75a084296c29755','01a1fbc207527499b9902251196f867b',NULL,'1','[{"limit":null,"name":"run","note":"","passed":true,"reached":null},{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91},{"limit":0.0,"name":"better than the base","note":"+29.0% on 48 held-out rows","passed":true,"reached":0.11},{"limit":0.05,"name":"export: divergence of model-Q4_0.gguf","note":"","passed":true,"reached":0.01},{"limit":null,"name":"not taken back before","note":"","passed":true,"reached":null},{"limit":null,"name":"files","note":"1 files have the SHA-256 that was registered","passed":true,"reached":null}]',1,'','tester','2026-11-21T01:39:19.619944+00:00');
INSERT INTO gate_decision VALUES('01a1fbc2082d7e2dae71117f9e073fb0','01a1fbc2080777a7822af9f5ace60050','01a1fbc207527499b9902251196f867b','1','[{"limit":null,"name":"run","note":"","passed":true,"reached":null},{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91},{"limit":0.0,"name":"better than the base","note":"+29.0% on 48 held-out rows","passed":true,"reached":0.11},{"limit":0.05,"name":"export: divergence of model-Q4_0.gguf","note":"","passed":true,"reached":0.01},{"limit":null,"name":"not taken back before","note":"","passed":true,"reached":null},{"limit":null,"name":"files","note":"1 files have the SHA-256 that was registered","passed":true,"reached":null}]',1,'','tester','2026-11-21T01:39:19.725563+00:00');
INSERT INTO gate_decision VALUES('01a1fbc208997fc8bf6d85958add8b9b','01a1fbc2086f7c1893ecd5adf6ac7f9b','01a1fbc2080777a7822af9f5ace60050','1','[{"limit":null,"name":"run","note":"","passed":true,"reached":null},{"limit":0.88,"name":"run: accuracy","note":"","passed":true,"reached":0.91},{"limit":0.0,"name":"better than the base","note":"+29.0% on 48 held-out rows","passed":true,"reached":0.11},{"limit":0.05,"name":"export: divergence of model-Q4_0.gguf","note":"","passed":true,"reached":0.01},{"limit":null,"name":"not taken back before","note":"","passed":true,"reached":null},{"limit":null,"name":"files","note":"1 files have the SHA-256 that was registered","passed":true,"reached":null}]',1,'','tester','2026-11-21T01:39:19.833279+00:00');
INSERT INTO stage_event VALUES('01a1fbc2076d779893955fe45cfd1942','01a1fbc207527499b9902251196f867b','trains','register','candidate','candidate','tester','a test',NULL,'2026-11-21T01:39:19.533190+00:00');
INSERT INTO stage_event VALUES('01a1fbc207c6784c9bde5dee4c42de7c','01a1fbc207527499b9902251196f867b','trains','promote','candidate','champion','tester','better','01a1fbc207c37935b75a084296c29755','2026-11-21T01:39:19.622159+00:00');
INSERT INTO stage_event VALUES('01a1fbc208087423ae8f2a72406b538d','01a1fbc2080777a7822af9f5ace60050','trains','register','candidate','candidate','tester','a test',NULL,'2026-11-21T01:39:19.688708+00:00');
INSERT INTO stage_event VALUES('01a1fbc2082e7013a6fb1ed0fdecb241','01a1fbc207527499b9902251196f867b','trains','replace','champion','retired','tester','second took its place',NULL,'2026-11-21T01:39:19.726415+00:00');
INSERT INTO stage_event VALUES('01a1fbc2082e7013a6fb1ed19c6bfe31','01a1fbc2080777a7822af9f5ace60050','trains','promote','candidate','champion','tester','better','01a1fbc2082d7e2dae71117f9e073fb0','2026-11-21T01:39:19.726791+00:00');
INSERT INTO stage_event VALUES('01a1fbc208707214866e86f04a8379c1','01a1fbc2086f7c1893ecd5adf6ac7f9b','trains','register','candidate','candidate','tester','a test',NULL,'2026-11-21T01:39:19.792771+00:00');
INSERT INTO stage_event VALUES('01a1fbc20919721584d05f3bd1f05f15','01a1fbc2086f7c1893ecd5adf6ac7f9b','trains','promote','candidate','canary','tester','a try','01a1fbc208997fc8bf6d85958add8b9b','2026-11-21T01:39:19.961729+00:00');
INSERT INTO experiment VALUES('01a1fbc209187e6c9cb61d0e4752dff6','trains','canary','[["llamacpp/second",0.9],["llamacpp/third",0.1]]','0ee7126948701c688ff82e8afbf60aed','running','tester','a try','','01a1fbc2086f7c1893ecd5adf6ac7f9b',0.1,20.0,'2026-11-21T01:39:19.873011+00:00',NULL);
INSERT INTO assignment VALUES('01a1fbc209187e6c9cb61d0e4752dff6','01a1f8ff0363752990cecdc1caa40137','llamacpp/third',0.1,'2026-11-21T01:39:20.013020+00:00');
INSERT INTO notice VALUES('01a1fbc209737b548ef73a7fbcceb5b6','trains','something happened','2026-11-21T01:39:20.051345+00:00',NULL);
INSERT INTO regression VALUES('01a1f8ff038e797bb88c1018619cdff7','trains');
CREATE TRIGGER stage_event_no_update BEFORE UPDATE ON stage_event BEGIN SELECT RAISE(ABORT, 'rows of stage_event are only ever added'); END;
CREATE TRIGGER stage_event_no_delete BEFORE DELETE ON stage_event BEGIN SELECT RAISE(ABORT, 'rows of stage_event are only ever added'); END;
CREATE TRIGGER gate_decision_no_update BEFORE UPDATE ON gate_decision BEGIN SELECT RAISE(ABORT, 'rows of gate_decision are only ever added'); END;
CREATE TRIGGER gate_decision_no_delete BEFORE DELETE ON gate_decision BEGIN SELECT RAISE(ABORT, 'rows of gate_decision are only ever added'); END;
INSERT INTO search_index(search_index) VALUES('rebuild');
INSERT INTO chunk_index(chunk_index) VALUES('rebuild');
COMMIT;
