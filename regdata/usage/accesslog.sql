-- The lines of an access log -> what was asked for, and when. Nothing in a line is taken on trust: one that is no request of
-- a form below is passed over.

-- No character separates columns, so that a line is one column whatever is in it.
create macro raw(file, packed) as table
select line from read_csv(
    file, columns = {'line': 'VARCHAR'}, auto_detect = false, header = false, delim = chr(1), quote = '', escape = '', comment = '',
    strict_mode = false, ignore_errors = true, null_padding = true, max_line_size = 1048576, compression = packed);

-- A line without what collectors put around it: Docker's json-file, and the prefix of CRI (Kubernetes).
create macro unwrapped(line) as
case when starts_with(line, '{"log"') and json_valid(line) then rtrim(json_extract_string(line, '$.log'), chr(10))
     when regexp_matches(line, '^\S+ std(out|err) [FP] ') then regexp_replace(line, '^\S+ \S+ \S ', '')
     else line end;

-- UTC epoch seconds of "25/Nov/2026:15:50:00 +0100", of ISO 8601 (UTC where it names no zone), of a number of seconds or
-- milliseconds.
create macro moment(said) as
try_cast(floor(coalesce(
    epoch(try_strptime(said, '%d/%b/%Y:%H:%M:%S %z')),
    if(try_cast(said as double) > 1e11, try_cast(said as double) / 1000, try_cast(said as double)),
    epoch(try_cast(said as timestamptz)))) as bigint);

-- What a line says. `form` tells apart the logs that the same request may be in, `line` is what makes the line this line.
create macro entry(form, line, time, method, uri, status, agent) as
{'form': form, 'line': line, 'time': time, 'method': method, 'uri': uri, 'status': try_cast(status as integer), 'agent': agent};

-- `… [time] "request" status bytes "referer" "agent" …`: Apache's, nginx's and distribution's (gorilla/handlers), which leaves
-- an absent referer empty, where the others write "-". Inside of quotes \" is a quote and \\ a backslash; nginx writes \x22, \x5C.
create macro combined(line) as
list_transform(
    [string_split(replace(replace(line, '\\', chr(2)), '\"', chr(3)), '"')],
    lambda part: if(len(part) < 7, null, entry(
        if(part[4] = '', 'distribution combined', 'combined'), array_to_string(part[1:6], '"'),
        moment(split_part(split_part(part[1], '[', -1), ']', 1)), split_part(part[2], ' ', 1), split_part(part[2], ' ', 2), part[3][2:4],
        replace(replace(replace(replace(part[6], chr(2), '\'), chr(3), '"'), '\x22', '"'), '\x5C', '\'))));

create macro first(list) as list_filter(list, lambda value: value is not null)[1];

-- A JSON object: distribution's, one of nginx's variables, or with the usual names.
create macro object(line) as
list_transform(
    [json_extract_string(line, [
        '$.time_iso8601', '$.time_local', '$.timestamp', '$."@timestamp"', '$.time', '$.msec', '$.ts', '$.date',
        '$."http.request.method"', '$.request_method', '$.method', '$.request.method', '$.RequestMethod',
        '$."http.request.uri"', '$.request_uri', '$.uri', '$.request.uri', '$.RequestPath', '$.path', '$.url',
        '$."http.response.status"', '$.status', '$.response_status', '$.status_code', '$.DownstreamStatus',
        '$."http.request.useragent"', '$.http_user_agent', '$.user_agent', '$.useragent', '$.agent',
        '$.request.headers."User-Agent"[0]', '$."request_User-Agent"',
        '$.request'])],
    lambda value: entry(
        if(value[14] is null, 'json', 'distribution'), line, first(list_transform(value[1:8], lambda said: moment(said))),
        coalesce(first(value[9:13]), split_part(value[33], ' ', 1)),
        coalesce(first(value[14:20]), split_part(value[33], ' ', 2)),
        first(value[21:25]), first(value[26:32])));

-- Notifications (distribution, notifications/event.go). Of what an event is about, its URL tells.
create macro events(line) as
list_transform(
    json_transform(line, '{"events": [{"id": "VARCHAR", "timestamp": "VARCHAR", "action": "VARCHAR",
        "target": {"repository": "VARCHAR", "digest": "VARCHAR", "tag": "VARCHAR", "mediaType": "VARCHAR"},
        "request": {"method": "VARCHAR", "useragent": "VARCHAR"}}]}').events,
    lambda event: entry(
        'notification', event.id, moment(event.timestamp), if(event.action = 'push', 'PUT', coalesce(nullif(event.request.method, ''), 'GET')),
        if(contains(event.target.mediaType, 'manifest') or contains(event.target.mediaType, 'index'),
           '/v2/' || event.target.repository || '/manifests/' || coalesce(nullif(event.target.tag, ''), event.target.digest), '/v2/'),
        case event.action when 'push' then 201 when 'pull' then 200 end, event.request.useragent));

-- Distribution's own messages as text: key=value or key="value".
create macro value_of(line, key) as
replace(replace(coalesce(nullif(regexp_extract(line, ' ' || key || '="((?:[^"\\]|\\.)*)"', 1), ''), regexp_extract(line, ' ' || key || '=([^" ]*)', 1)), '\"', '"'), '\\', '\');

create macro logfmt(line) as
[entry('distribution', line, moment(value_of(' ' || line, 'time')), value_of(line, 'http\.request\.method'),
       value_of(line, 'http\.request\.uri'), value_of(line, 'http\.response\.status'), value_of(line, 'http\.request\.useragent'))];

create macro entries(line) as
case when starts_with(line, '{')
     then case when not json_valid(line) then []
               when json_exists(line, '$.events') then events(line)
               when json_exists(line, '$.target.repository') then events('{"events":[' || line || ']}')
               else object(line) end
     when starts_with(line, 'time="') then logfmt(line)
     else combined(line) end;

-- The requests of a file: those that name a manifest as they are, of all others one a day, without `method`.
create macro requested(file, packed) as table
with request as (
    select *, replace(replace(replace(split_part(uri, '?', 1), '%3A', ':'), '%3a', ':'), '%2F', '/') as path
    from (select unnest(entries(unwrapped(line)), recursive := true) from raw(file, packed))
    -- Before Docker's first release there was nothing to be asked for: the clock was wrong.
    where method <> '' and status is not null and uri is not null and time >= epoch(timestamp '2013-03-20')
),
named as (
    select *, contains(path, '/v2/') as about,
           if((method, status) in (('GET', 200), ('HEAD', 200), ('PUT', 201)), split_part(path, '/', -1), '') as reference,
           path[instr(path, '/v2/') + 4:length(path) - length('/manifests/' || reference)] as repository
    from request
),
line as (
    select time, about, if(about and reference <> '' and repository <> '' and ends_with(path, '/manifests/' || reference),
           {'id': md5_number_lower(form || ' ' || line), 'form': form, 'method': method, 'repository': repository,
            'reference': reference, 'agent': agent[:512], 'n': if(form = 'notification', 1, null)}, null) as manifest
    from named
)
select coalesce(manifest.id, (time // 86400)::ubigint) as id, min(time) as time, any_value(manifest.form) as form, any_value(manifest.method) as method,
       any_value(manifest.repository) as repository, any_value(manifest.reference) as reference, any_value(manifest.agent) as agent,
       coalesce(any_value(manifest.n), count(*))::integer as n, bool_or(about) as about
from line group by coalesce(manifest.id, (time // 86400)::ubigint);

-- Whether a User-Agent is one of those that pull nothing; globs in small letters.
create macro is_ignored(agent, globs) as
coalesce(list_bool_or(list_transform(globs::varchar[], lambda pattern: lower(agent) glob pattern)), false);

-- What was read of the logs in this run, by log (a file and what it was before it was rotated).
create temp table seen as select 0 as log, * from requested('/dev/null', 'none');
