# fish completion for composefs-fuse. test/e2e/completions.test.ts compares it with --help.

function __composefs_fuse_mount_options
    string split ' ' 'basedir= source= verity verity= tryverity noverity verity_check= verify_engine= verify_at=' \
        'digest= data= transport= uid_map= gid_map= squash= upperdir= workdir= allow_other noallow_other noacl' \
        'suid dev noexec fsname= max_read= context= auto_unmount nfs_export nonempty'
end

complete -c composefs-fuse -n __fish_is_first_token -a doctor -d 'Say what works on this machine'
complete -c composefs-fuse -n '__fish_seen_subcommand_from doctor' -l json -d 'Print JSON'
complete -c composefs-fuse -l basedir -x -a '(__fish_complete_directories)' -d 'Directory of objects'
complete -c composefs-fuse -l verity -x -a 'off if-present require' -d 'Which objects are verified'
complete -c composefs-fuse -l verify-engine -x -a 'auto kernel user' -d 'Who vouches for objects'
complete -c composefs-fuse -l verify-at -x -a 'open read' -d 'When objects are verified'
complete -c composefs-fuse -l digest -x -d 'Mount only an image with this digest'
complete -c composefs-fuse -l data -x -a 'auto passthrough daemon overlay' -d 'Who reads objects'
complete -c composefs-fuse -l uid-map -x -d 'User ids, as IMAGE:HOST:COUNT'
complete -c composefs-fuse -l gid-map -x -d 'Group ids, as IMAGE:HOST:COUNT'
complete -c composefs-fuse -l squash -x -d 'One owner for everything, as UID:GID'
complete -c composefs-fuse -l upperdir -x -a '(__fish_complete_directories)' -d 'Where what is written goes'
complete -c composefs-fuse -l workdir -x -a '(__fish_complete_directories)' -d 'The work directory of overlayfs'
complete -c composefs-fuse -s o -x -a '(__fish_complete_list , __composefs_fuse_mount_options)' -d 'Mount options'
complete -c composefs-fuse -l poll -x -d 'How long a thread looks for requests, in microseconds'
complete -c composefs-fuse -s f -l foreground -d 'Stay in the foreground'
complete -c composefs-fuse -l transport -x -a 'auto device io_uring fuse-native' -d 'How requests come'
complete -c composefs-fuse -l threads -x -d 'Serving threads'
complete -c composefs-fuse -s s -d 'One serving thread'
complete -c composefs-fuse -l log-level -x -a 'fatal error warn info debug trace silent' -d 'What is logged'
complete -c composefs-fuse -l log-format -x -a 'auto text json' -d 'How it is logged'
complete -c composefs-fuse -l log-file -r -d 'Append the log to a file'
complete -c composefs-fuse -l pid-file -r -d 'Where the process id is written'
complete -c composefs-fuse -s d -l debug -d 'Foreground, with --log-level debug'
complete -c composefs-fuse -s h -l help -d 'Show the options'
complete -c composefs-fuse -s V -l version -d 'Show the version'
