# fish completion for composefs-info. test/e2e/completions.test.ts compares it with --help.

set -l commands ls dump objects missing-objects measure-file stat fsck diff
set -l none "not __fish_seen_subcommand_from $commands"
complete -c composefs-info -n $none -f
complete -c composefs-info -n $none -a ls -d 'List all names'
complete -c composefs-info -n $none -a dump -d 'Print the composefs-dump(5) text'
complete -c composefs-info -n $none -a objects -d 'List the objects that the images refer to'
complete -c composefs-info -n $none -a missing-objects -d 'List those that the base directories do not have'
complete -c composefs-info -n $none -a measure-file -d 'Print the fs-verity digest of files'
complete -c composefs-info -n $none -a stat -d 'Count what is in an image'
complete -c composefs-info -n $none -a fsck -d 'Check the image and its objects'
complete -c composefs-info -n $none -a diff -d 'Compare images, dumps or directories'
complete -c composefs-info -l basedir -x -a '(__fish_complete_directories)' -d 'Where the objects are'
complete -c composefs-info -l filter -x -d 'Only this entry of the root directory'
complete -c composefs-info -l json -d 'Print JSON'
complete -c composefs-info -l metadata-only -d 'fsck: do not look at objects'
complete -c composefs-info -l hardlinks -d 'diff: keep hard links'
complete -c composefs-info -l use-epoch -d 'diff: set all modification times to 0'
complete -c composefs-info -l skip-devices -d 'diff: leave out device nodes'
complete -c composefs-info -l skip-xattrs -d 'diff: leave out extended attributes'
complete -c composefs-info -l user-xattrs -d 'diff: keep only user.* attributes'
complete -c composefs-info -l help -d 'Show the options'
complete -c composefs-info -l version -d 'Show the version'
