-- A log as revision 0003 writes it. Never edited: every later Pointsman must open it.
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
INSERT INTO alembic_version VALUES('0003');
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
INSERT INTO document VALUES('01a1f9d8dc9c7bbeabc61bc72f6b3676','ace5e8be0323ee077eed8fdfc6cbe7e13560265e4b87168855df74da01612020','/notes/points.md','points.md','0000000000000000000000000000000000000000000000000000000000000000','markdown',42,3,'1:1000','01a1f9d8dc9c7bbeabc61bc654f83d2c','2026-11-20T16:45:01.467999+00:00',NULL);
INSERT INTO chunk VALUES(1,'01a1f9d8dc9c7bbeabc61bc72f6b3676',0,1,3,0,'Points','# Points

A pointsman sets the points.',NULL,'');
INSERT INTO search_index(search_index) VALUES('rebuild');
INSERT INTO chunk_index(chunk_index) VALUES('rebuild');
COMMIT;
